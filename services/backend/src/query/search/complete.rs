//! Completions of a query: the language says which part is missing at the cursor, and the project has
//! the names and values.

use std::collections::BTreeMap;

use matyan_model::{
    entity::{Entity, Experiment, Tag, entity_page},
    keys,
};
use matyan_proto::{
    common::v1::SeriesType,
    limits,
    runs::v1::ParamPath,
    search::v1::{
        CompleteRequest, CompleteResponse, Completion, GroupBy, GroupOrder, GroupsRequest, SearchKind,
        SortField, group_by::By, group_value,
    },
};
use matyan_ql::{CompletionPlace, MissingPart, is_attribute, param_text, text_literal};
use matyan_value::{Value, cbor, json};

use super::groups;
use crate::{
    query::{catalog::Catalog, params::MergedParams},
    server::{
        call::Call,
        convert,
        error::{Error, Result},
    },
};

const DEFAULT_LIMIT: u32 = 40;
const MAX_LIMIT: u32 = 100;
/// Maximum number of values of a param to choose from: the most frequent values.
const VALUES: u32 = 100;
/// Maximum number of experiments or tags to choose from.
const NAMES: usize = 1_000;

type DescribedWord = (&'static str, &'static str);

const WORDS: [DescribedWord; 6] = [
    ("run", "its properties and params"),
    ("and", "both"),
    ("or", "one of them"),
    ("not", "the opposite"),
    ("in", "is part of"),
    ("datetime", "datetime(2026, 1, 31)"),
];
const RUN_MEMBERS: [DescribedWord; 13] = [
    ("name", "text"),
    ("tags", "\"best\" in run.tags"),
    ("experiment", "its name, or None"),
    ("description", "text"),
    ("created_at", "time, such as datetime(2026, 1, 31)"),
    ("end_time", "time, or None while it is active"),
    ("duration", "seconds"),
    ("active", "True or False"),
    ("archived", "True or False"),
    ("outcome", "\"finished\", \"failed\" or \"interrupted\""),
    ("hash", "id of the run"),
    ("parent", "id of the run that it branches from"),
    ("metrics", "run.metrics[\"loss\"].last"),
];
const METRIC_MEMBERS: [DescribedWord; 6] = [
    ("last", "last value"),
    ("min", "lowest value"),
    ("max", "highest value"),
    ("first", "first value"),
    ("last_step", "number of the last step"),
    ("first_step", "number of the first step"),
];
const SERIES_MEMBERS: [DescribedWord; 2] =
    [("name", "text"), ("context", "metric.context.subset == \"val\"")];
const OUTCOMES: [&str; 3] = ["finished", "failed", "interrupted"];

/// Names after which more has to follow.
const OPEN: [&str; 10] =
    ["run", "metrics", "context", "metric", "images", "texts", "audios", "figures", "htmls", "point_clouds"];

pub(super) async fn complete(
    catalog: &Catalog,
    call: &Call,
    request: CompleteRequest,
) -> Result<CompleteResponse> {
    let subject = Subject::of(request.kind())?;
    convert::check_limit("text", request.text.len(), limits::QUERY_BYTES)?;
    convert::check_limit("limit", request.limit as usize, MAX_LIMIT as usize)?;
    let cursor = byte_offset(&request.text, request.cursor)?;
    let Some(place) = CompletionPlace::find(&request.text, cursor) else {
        return Ok(CompleteResponse { start: request.cursor, end: request.cursor, completions: Vec::new() });
    };
    let project = Project { catalog, call, subject };
    let mut completions = project.completions(&place).await?;
    // A complete word needs no completion.
    let typed = &request.text[place.range.clone()];
    completions.retain(|one| one.text != typed || one.is_open);
    completions.truncate(if request.limit == 0 { DEFAULT_LIMIT } else { request.limit } as usize);
    let characters = |bytes: usize| request.text[..bytes].chars().count() as u32;
    let start = characters(place.range.start);
    let end = characters(place.range.end);
    Ok(CompleteResponse { start, end, completions })
}

fn byte_offset(text: &str, characters: u32) -> Result<usize> {
    let mut offsets = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    offsets.nth(characters as usize).ok_or_else(|| Error::field("cursor", "is after the end of the text"))
}

/// The series that a search is for.
#[derive(Clone, Copy)]
struct Subject {
    of: SeriesType,
    /// Its name in queries.
    name: &'static str,
}

impl Subject {
    fn of(kind: SearchKind) -> Result<Self> {
        let (of, name) = match kind {
            SearchKind::Unspecified => {
                return Err(Error::field("kind", "is missing: name a kind of search"));
            }
            SearchKind::Runs | SearchKind::Metrics => (SeriesType::Metric, "metric"),
            SearchKind::Images => (SeriesType::Images, "images"),
            SearchKind::Texts => (SeriesType::Texts, "texts"),
            SearchKind::Distributions => (SeriesType::Distributions, "distributions"),
            SearchKind::Audios => (SeriesType::Audios, "audios"),
            SearchKind::Figures => (SeriesType::Figures, "figures"),
            SearchKind::Htmls => (SeriesType::Htmls, "htmls"),
            SearchKind::PointClouds => (SeriesType::PointClouds, "point_clouds"),
        };
        Ok(Self { of, name })
    }
}

struct Project<'b> {
    catalog: &'b Catalog,
    call: &'b Call,
    subject: Subject,
}

impl Project<'_> {
    async fn completions(&self, place: &CompletionPlace) -> Result<Vec<Completion>> {
        let typed = place.typed.as_str();
        Ok(match &place.missing {
            MissingPart::Name => self.names(typed).await?,
            MissingPart::Member(path) => self.members(path, typed).await?,
            MissingPart::MetricMember => fixed(&METRIC_MEMBERS, typed),
            MissingPart::Metric => {
                let typed = typed.to_owned();
                self.merged(move |merged| {
                    let metrics = merged.series(SeriesType::Metric);
                    let metrics = metrics.filter_map(|(name, context)| metric_text(name, context));
                    let texts = metrics.map(|text| completion(text[1..].to_owned(), "metric"));
                    Ok(containing(texts.collect(), &typed))
                })
                .await?
            }
            MissingPart::Value(path) => self.values(path, typed).await?,
            MissingPart::Tag => self.entities::<Tag>(typed, "tag").await?,
        })
    }

    /// Searches the merged params of the project, which may be large.
    async fn merged(
        &self,
        find: impl FnOnce(&MergedParams) -> Result<Vec<Completion>> + Send + 'static,
    ) -> Result<Vec<Completion>> {
        let merged = self.catalog.params.merged(self.call.project).await?;
        self.catalog.deps.evaluation.run(move || find(&merged)).await?
    }

    async fn names(&self, typed: &str) -> Result<Vec<Completion>> {
        let subject = completion(self.subject.name.to_owned(), "what is searched");
        if typed.is_empty() {
            return Ok(vec![opened(completion("run".to_owned(), WORDS[0].1)), opened(subject)]);
        }
        let mut found = fixed(&WORDS, typed);
        found.extend(subject.text.starts_with(typed).then(|| opened(subject)));
        found.extend(
            fixed(&RUN_MEMBERS, typed)
                .into_iter()
                .map(|member| Completion { text: format!("run.{}", member.text), ..member }),
        );
        let typed = typed.to_owned();
        let logged = self.merged(move |merged| {
            let paths = params(merged)?.into_iter().map(|path| completion(param_text(&path), "param"));
            let mut found = containing(paths.collect(), &typed);
            let metrics = merged.series(SeriesType::Metric);
            let metrics = metrics.filter_map(|(name, context)| metric_text(name, context));
            let metrics = metrics.map(|metric| completion(format!("run.metrics{metric}.last"), "metric"));
            found.extend(containing(metrics.collect(), &typed));
            Ok(found)
        });
        found.extend(logged.await?);
        Ok(found)
    }

    async fn members(&self, path: &[String], typed: &str) -> Result<Vec<Completion>> {
        let [subject, above @ ..] = path else { return Ok(Vec::new()) };
        if subject != "run" {
            let mut members = if above.is_empty() { fixed(&SERIES_MEMBERS, typed) } else { Vec::new() };
            let is_metric = above.is_empty() && subject == "metric";
            members.extend(if is_metric { fixed(&METRIC_MEMBERS, typed) } else { Vec::new() });
            return Ok(members);
        }
        let above = above.to_vec();
        let text = typed.to_owned();
        let is_top = above.is_empty();
        let below = self.merged(move |merged| {
            // Names, and whether there are others below them.
            let mut next: BTreeMap<String, bool> = BTreeMap::new();
            for mut segments in params(merged)? {
                if segments.starts_with(&above) && segments.len() > above.len() {
                    let is_group = segments.len() > above.len() + 1;
                    *next.entry(segments.swap_remove(above.len())).or_default() |= is_group;
                }
            }
            // Other names have no place after a dot.
            next.retain(|name, _| is_attribute(name, above.len()));
            let below = next.into_iter().map(|(text, is_open)| {
                let detail = if is_open { "params" } else { "param" };
                Completion { text, detail: detail.to_owned(), is_open }
            });
            Ok(containing(below.collect(), &text))
        });
        let below = below.await?;
        let mut members = if is_top { fixed(&RUN_MEMBERS, typed) } else { Vec::new() };
        members.extend(below);
        Ok(members)
    }

    async fn values(&self, path: &[String], typed: &str) -> Result<Vec<Completion>> {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let texts = |texts: Vec<&str>, detail| {
            containing(texts.into_iter().map(|text| completion(text_literal(text), detail)).collect(), typed)
        };
        Ok(match names[..] {
            ["run", "experiment"] => self.entities::<Experiment>(typed, "experiment").await?,
            ["run", "outcome"] => texts(OUTCOMES.to_vec(), "outcome"),
            ["run", "active" | "archived" | "is_archived"] => fixed(&[("True", ""), ("False", "")], typed),
            [subject, "name"] if subject == self.subject.name => {
                let of = self.subject.of;
                let typed = typed.to_owned();
                self.merged(move |merged| {
                    let mut names: Vec<&str> = merged.series(of).map(|(name, _)| name).collect();
                    names.dedup();
                    let names = names.into_iter().map(|name| completion(text_literal(name), "name"));
                    Ok(containing(names.collect(), &typed))
                })
                .await?
            }
            ["run", _, ..] => self.logged_values(&path[1..], typed).await?,
            _ => Vec::new(),
        })
    }

    /// The values that runs have, the most frequent first.
    async fn logged_values(&self, path: &[String], typed: &str) -> Result<Vec<Completion>> {
        let by = match path {
            [name] if name == "name" => By::Field(SortField::Name.into()),
            [name] if !is_attribute(name, 0) => return Ok(Vec::new()),
            _ => By::Param(ParamPath { segments: path.to_vec() }),
        };
        let request = GroupsRequest {
            by: vec![GroupBy { by: Some(by), ..GroupBy::default() }],
            order: GroupOrder::Count.into(),
            descending: true,
            limit: VALUES,
            ..GroupsRequest::default()
        };
        let catalog = self.catalog;
        let found = groups::groups(&catalog.deps, &catalog.tables, self.call, request).await?;
        let values = found.groups.into_iter().filter_map(|group| group.values.into_iter().next()?.value);
        let literals = values.filter_map(|value| match value {
            // A longer text is cut off.
            group_value::Value::Text(text) if text.len() >= limits::NAME_BYTES => None,
            group_value::Value::Text(text) if text.is_empty() => None,
            group_value::Value::Text(text) => Some(text_literal(&text)),
            group_value::Value::Integer(integer) => literal(&Value::Integer(integer)),
            group_value::Value::Number(number) => literal(&Value::Float(number)),
            group_value::Value::Flag(flag) => literal(&Value::Bool(flag)),
        });
        Ok(containing(literals.map(|text| completion(text, "value")).collect(), typed))
    }

    async fn entities<E: Entity>(&self, typed: &str, detail: &'static str) -> Result<Vec<Completion>> {
        let snapshot = self.catalog.deps.store.snapshot().await?;
        let mut names = Vec::new();
        let mut rest = Some(keys::entities(self.call.project, E::KIND));
        while let Some(range) = rest.take_if(|_| names.len() < NAMES) {
            let (page, next) = entity_page::<E>(snapshot.as_ref(), self.call.project, &range).await?;
            names.extend(
                page.iter()
                    .filter_map(|(_, entity)| Some(completion(text_literal(entity.unique_name()?), detail))),
            );
            rest = next;
        }
        Ok(containing(names, typed))
    }
}

/// The paths of all params of the project, and of the maps above them.
pub(super) fn params(merged: &MergedParams) -> Result<Vec<Vec<String>>> {
    let tree = cbor::decode_map(merged.params()).map_err(|error| {
        Error::Internal(matyan_store::Error::corrupt(format!("invalid merged params: {error}")))
    })?;
    let mut found = Vec::new();
    let mut rest: Vec<(Vec<String>, Value)> =
        tree.into_iter().rev().map(|(key, value)| (vec![key.to_string()], value)).collect();
    while let Some((path, value)) = rest.pop() {
        match value {
            Value::Map(below) if !below.is_empty() => {
                let below = below.into_iter().rev();
                rest.extend(below.map(|(key, value)| ([&path[..], &[key.to_string()]].concat(), value)));
            }
            _ => found.push(path),
        }
    }
    Ok(found)
}

fn completion(text: String, detail: &str) -> Completion {
    Completion { text, detail: detail.to_owned(), is_open: false }
}

fn opened(completion: Completion) -> Completion {
    Completion { is_open: true, ..completion }
}

/// The names that start with the typed text.
fn fixed(all: &[DescribedWord], typed: &str) -> Vec<Completion> {
    let found = all.iter().filter(|(name, _)| name.starts_with(typed));
    found
        .map(|(name, detail)| Completion {
            is_open: OPEN.contains(name),
            ..completion((*name).to_owned(), detail)
        })
        .collect()
}

/// The completions that contain the typed text, ignoring case; completions that start with it come first.
fn containing(mut all: Vec<Completion>, typed: &str) -> Vec<Completion> {
    let typed = typed.to_lowercase();
    let place = |one: &Completion| one.text.to_lowercase().find(&typed);
    all.retain(|one| place(one).is_some());
    // A text starts after its quote, and a path after `run.`.
    let begins = |one: &Completion| {
        let text = one.text.to_lowercase();
        let text = text.strip_prefix("run").map_or(text.as_str(), |rest| rest.trim_start_matches(['.', '[']));
        text.trim_start_matches('"').starts_with(&typed)
    };
    all.sort_by_cached_key(|one| !begins(one));
    all
}

/// `["loss", {"subset": "val"}]`; `None` for a context without a literal.
fn metric_text(name: &str, context: &str) -> Option<String> {
    let name = text_literal(name);
    match context {
        "" | "{}" => Some(format!("[{name}]")),
        context => Some(format!("[{name}, {}]", literal(&json::parse(context).ok()?)?)),
    }
}

/// A value as the language writes it; `None` for bytes and numbers without a literal.
fn literal(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) if float.is_finite() => format!("{float:?}"),
        Value::Text(text) => text_literal(text),
        Value::List(list) => {
            let items: Option<Vec<String>> = list.iter().map(literal).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(map) => {
            let member =
                |(key, value): (&String, &Value)| Some(format!("{}: {}", text_literal(key), literal(value)?));
            let members: Option<Vec<String>> = map.iter().map(member).collect();
            format!("{{{}}}", members?.join(", "))
        }
        Value::Float(_) | Value::Big(_) | Value::Bytes(_) => return None,
    })
}
