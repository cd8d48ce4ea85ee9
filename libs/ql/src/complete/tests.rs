use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    CompletionPlace, KEYWORDS, METHODS, MissingPart, RUN_ATTRIBUTES, SUBJECTS, param_text, text_literal,
};
use crate::names::Property;
use crate::{Endpoint, QueryOptions};

const OPTIONS: QueryOptions = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };

/// The place at the `|` in a query: its kind, the typed text, and the text that a completion replaces.
fn place(query: &str) -> Option<(MissingPart, String, String)> {
    let cursor = query.find('|').unwrap();
    let text = query.replacen('|', "", 1);
    let CompletionPlace { missing, range, typed } = CompletionPlace::find(&text, cursor)?;
    Some((missing, typed, text[range].to_owned()))
}

fn path(segments: &[&str]) -> Vec<String> {
    segments.iter().map(|segment| (*segment).to_owned()).collect()
}

#[test]
fn the_missing_part_follows_from_what_is_before_the_cursor() {
    let lr = || MissingPart::Value(path(&["run", "hparams", "lr"]));
    for (query, missing, typed, replaced) in [
        ("|", MissingPart::Name, "", ""),
        ("lo|", MissingPart::Name, "lo", "lo"),
        ("run.active and lo|ss", MissingPart::Name, "lo", "loss"),
        ("not (|", MissingPart::Name, "", ""),
        ("1 < x|", MissingPart::Name, "x", "x"),
        ("# note\nru|", MissingPart::Name, "ru", "ru"),
        ("run.|", MissingPart::Member(path(&["run"])), "", ""),
        ("run.hparams.mo|del > 3", MissingPart::Member(path(&["run", "hparams"])), "mo", "model"),
        ("run [\"a \\\"b\"] . x|", MissingPart::Member(path(&["run", "a \"b"])), "x", "x"),
        ("metric.con|", MissingPart::Member(path(&["metric"])), "con", "con"),
        ("run.metrics[\"loss\"].la|", MissingPart::MetricMember, "la", "la"),
        ("run.metrics['loss', {'subset': 'val'}].|", MissingPart::MetricMember, "", ""),
        ("run.metrics[\"lo|\"].last", MissingPart::Metric, "lo", "\"lo\"]"),
        ("run.metrics[\"lo|", MissingPart::Metric, "lo", "\"lo"),
        ("run.hparams.lr == |", lr(), "", ""),
        ("run.hparams.lr >= 0.|", lr(), "0.", "0."),
        ("run['hparams'].lr != 'a|' and x", lr(), "a", "'a'"),
        ("run.hparams.lr == \"ad|am w\" and x == \"y\"", lr(), "ad", "\"adam w\""),
        ("run.hparams.lr == \"ad| and x == \"y\"", lr(), "ad", "\"ad"),
        ("run.hparams.lr not in (1, \"a|", lr(), "a", "\"a"),
        ("run.hparams.lr == a|", lr(), "a", "a"),
        ("\"be|\" in run.tags", MissingPart::Tag, "be", "\"be\""),
        ("run.active and 'é|", MissingPart::Tag, "é", "'é"),
        ("run.tags.contains(\"|\")", MissingPart::Tag, "", "\"\""),
    ] {
        assert_eq!(place(query), Some((missing, typed.to_owned(), replaced.to_owned())), "{query}");
    }
    for query in [
        "run |",
        "run.lr == 1 |",
        "12|",
        "1 + |",
        "x y|",
        "\"a\" b|",
        "# run.|",
        "f(x).y|",
        "run.x[|",
        "1.5 < |",
    ] {
        assert_eq!(place(query), None, "{query}");
    }
}

#[test]
fn names_and_texts_are_written_as_the_language_reads_them() {
    for (segments, text) in [
        (&["hparams", "lr"][..], "run.hparams.lr"),
        (&["learning rate", "a\"b"], r#"run["learning rate"]["a\"b"]"#),
        (&["name", "keys", "name"], r#"run["name"]["keys"].name"#),
        (&["if", "_x", "é"], r#"run["if"]["_x"]["é"]"#),
    ] {
        assert_eq!(param_text(&path(segments)), text);
    }
    assert_eq!(text_literal("a\n\u{1}\\"), r#""a\n\u0001\\""#);
}

/// The web UI and `matyan publish` have copies of these names, and compare them with the same file.
#[test]
fn other_programs_know_the_names_of_the_language() {
    let text = std::fs::read_to_string("../../tests/vectors/query_names.json").unwrap();
    let file: BTreeMap<String, BTreeSet<String>> = serde_json::from_str(&text).unwrap();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut properties: Vec<&str> = Property::ALL.iter().map(|(name, _)| *name).collect();
    properties.extend(RUN_ATTRIBUTES);
    assert_eq!(file["objects"], set(&SUBJECTS));
    assert_eq!(file["properties"], set(&properties));
    assert_eq!(file["methods"], set(&METHODS));
    assert_eq!(file["keywords"], set(&KEYWORDS));
}

proptest! {
    #[test]
    fn any_text_has_a_place_or_none(
        text in prop_oneof![
            ".{0,30}",
            r#"(run|metrics|in|not|é|"|'|\\|\[|\]|\(|\)|\.|==|<| |#|\n|1|,){0,20}"#,
        ],
        at in 0..60_usize,
    ) {
        let cursor = text.floor_char_boundary(at.min(text.len()));
        if let Some(place) = CompletionPlace::find(&text, cursor) {
            prop_assert!(text.get(place.range.clone()).is_some());
            prop_assert!(place.range.start <= cursor && cursor <= place.range.end);
        }
    }

    #[test]
    fn literals_are_read_back(text in ".{0,20}") {
        let query = crate::compile(&format!("{} == 1", text_literal(&text)), OPTIONS);
        prop_assert!(query.is_ok(), "{query:?}");
    }
}
