//! JSON form of the parts of studies. Numbers of samplers are exact to the bit.

use std::collections::HashMap;

use matyan_proto::{
    backup::v1::{self as pb, study_part::Content},
    studies::v1 as studies,
};
use matyan_value::{Map, Value};

use super::{Fields, JsonObject, Result};

/// Returns the line of a part.
pub(crate) fn part_line(part: &pb::StudyPart) -> String {
    let (kind, data) = match &part.content {
        Some(Content::Attribute(attribute)) => ("attribute", attribute_data(attribute)),
        Some(Content::Trial(trial)) => ("trial", trial_data(trial)),
        Some(Content::Study(study)) => ("study", study_data(study)),
        None => ("unknown", Fields::default()),
    };
    Fields::default()
        .unsigned("study_id", part.study_id.into())
        .text("type", kind)
        .set("data", data.value())
        .json()
}

/// Parses a part. Returns `None` for an unknown kind.
pub(crate) fn part(line: &JsonObject) -> Result<Option<pb::StudyPart>> {
    let data = line.inner("data")?.ok_or_else(|| line.error("`data` is missing"))?;
    let content = match line.required_text("type")?.as_str() {
        "attribute" => Content::Attribute(attribute(&data)?),
        "trial" => Content::Trial(trial(&data)?),
        "study" => Content::Study(study(&data)?),
        _ => return Ok(None),
    };
    Ok(Some(pb::StudyPart { study_id: line.number("study_id")?, content: Some(content) }))
}

fn attribute_data(part: &pb::StudyAttribute) -> Fields {
    let kind = match part.kind() {
        studies::AttributeKind::System => "system",
        studies::AttributeKind::User | studies::AttributeKind::Unspecified => "user",
    };
    let attribute = part.attribute.clone().unwrap_or_default();
    Fields::default().text("kind", kind).text("key", &attribute.key).text("value", &attribute.value)
}

fn attribute(data: &JsonObject) -> Result<pb::StudyAttribute> {
    let kind = match data.required_text("kind")?.as_str() {
        "user" => studies::AttributeKind::User,
        "system" => studies::AttributeKind::System,
        other => return Err(data.error(format!("`kind` is `{other}`, which is neither user nor system"))),
    };
    let attribute =
        studies::Attribute { key: data.required_text("key")?, value: data.required_text("value")? };
    Ok(pb::StudyAttribute { kind: kind.into(), attribute: Some(attribute) })
}

fn study_data(study: &pb::StudyDescription) -> Fields {
    let directions = study.directions().map(|direction| {
        let name = match direction {
            studies::Direction::Maximize => "maximize",
            studies::Direction::Minimize | studies::Direction::Unspecified => "minimize",
        };
        Value::Text(name.to_owned())
    });
    let experiment = study.experiment.clone().unwrap_or_default();
    Fields::default()
        .text("name", &study.name)
        .set("directions", Value::List(directions.collect()))
        .time("created_at", study.created_us)
        .text("experiment_id", &experiment.id)
        .text("experiment_name", &experiment.name)
        .unsigned("trial_count", study.trial_count.into())
}

fn study(data: &JsonObject) -> Result<pb::StudyDescription> {
    let directions = data.texts("directions")?.into_iter().map(|name| match name.as_str() {
        "minimize" => Ok(i32::from(studies::Direction::Minimize)),
        "maximize" => Ok(i32::from(studies::Direction::Maximize)),
        other => Err(data.error(format!("`directions` has `{other}`, which is not a direction"))),
    });
    Ok(pb::StudyDescription {
        name: data.required_text("name")?,
        directions: directions.collect::<Result<_>>()?,
        created_us: data.time("created_at")?.unwrap_or_default(),
        experiment: Some(pb::Link {
            id: data.text("experiment_id")?.unwrap_or_default(),
            name: data.text("experiment_name")?.unwrap_or_default(),
        }),
        trial_count: data.number("trial_count")?,
    })
}

/// The names of states. A part that continues a trial has none.
const STATES: [(studies::TrialState, &str); 5] = [
    (studies::TrialState::Waiting, "waiting"),
    (studies::TrialState::Running, "running"),
    (studies::TrialState::Complete, "complete"),
    (studies::TrialState::Pruned, "pruned"),
    (studies::TrialState::Failed, "failed"),
];

fn trial_data(trial: &studies::Trial) -> Fields {
    let state = STATES.iter().find(|(state, _)| *state == trial.state()).map(|(_, name)| *name);
    let values = trial.values.iter().map(|value| Value::Float(*value));
    let params = trial.params.iter().map(|param| {
        Value::List(vec![
            Value::Text(param.name.clone()),
            Value::Float(param.value),
            Value::Text(param.distribution.clone()),
            Value::Integer(param.set_us),
        ])
    });
    let mut steps: Vec<_> = trial.intermediate_values.iter().collect();
    steps.sort_unstable_by_key(|(step, _)| **step);
    let steps =
        steps.into_iter().map(|(step, value)| Value::List(vec![Value::Integer(*step), Value::Float(*value)]));
    let texts = |attributes: &HashMap<String, String>| {
        let texts = attributes.iter().map(|(key, value)| (key.clone(), Value::Text(value.clone())));
        Value::Map(texts.collect::<Map>())
    };
    Fields::default()
        .unsigned("number", trial.number.into())
        .optional_text("state", state)
        .exact("values", Value::List(values.collect()))
        .optional_time("started_at", trial.started_us)
        .optional_time("finished_at", trial.finished_us)
        .text("run_hash", &trial.run_id)
        .exact("params", Value::List(params.collect()))
        .set("user_attributes", texts(&trial.user_attributes))
        .set("system_attributes", texts(&trial.system_attributes))
        .exact("intermediate_values", Value::List(steps.collect()))
}

fn trial(data: &JsonObject) -> Result<studies::Trial> {
    let state = match data.text("state")? {
        None => studies::TrialState::Unspecified,
        Some(name) => {
            let found = STATES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state);
            found.ok_or_else(|| data.error(format!("`state` is `{name}`, which is not a state")))?
        }
    };
    let wrong = |key: &str| data.error(format!("`{key}` has an entry of another form"));
    let values = list(data, "values")?.into_iter().map(|value| float(&value).ok_or_else(|| wrong("values")));
    let params = list(data, "params")?.into_iter().map(|param| {
        let Value::List(parts) = param else { return Err(wrong("params")) };
        let [Value::Text(name), value, Value::Text(distribution), Value::Integer(set_us)] = parts.as_slice()
        else {
            return Err(wrong("params"));
        };
        let value = float(value).ok_or_else(|| wrong("params"))?;
        Ok(studies::TrialParam {
            name: name.clone(),
            value,
            distribution: distribution.clone(),
            set_us: *set_us,
        })
    });
    let steps = list(data, "intermediate_values")?.into_iter().map(|step| {
        let Value::List(parts) = step else { return Err(wrong("intermediate_values")) };
        match parts.as_slice() {
            [Value::Integer(step), value] => {
                float(value).map(|value| (*step, value)).ok_or_else(|| wrong("intermediate_values"))
            }
            _ => Err(wrong("intermediate_values")),
        }
    });
    Ok(studies::Trial {
        number: data.number("number")?,
        state: state.into(),
        values: values.collect::<Result<_>>()?,
        started_us: data.time("started_at")?,
        finished_us: data.time("finished_at")?,
        params: params.collect::<Result<_>>()?,
        user_attributes: texts(data, "user_attributes")?,
        system_attributes: texts(data, "system_attributes")?,
        intermediate_values: steps.collect::<Result<_>>()?,
        run_id: data.text("run_hash")?.unwrap_or_default(),
    })
}

fn list(data: &JsonObject, key: &str) -> Result<Vec<Value>> {
    match data.exact(key)? {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::List(list)) => Ok(list),
        Some(_) => Err(data.error(format!("`{key}` is not a list"))),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(float) => Some(*float),
        Value::Integer(integer) => Some(*integer as f64),
        _ => None,
    }
}

fn texts(data: &JsonObject, key: &str) -> Result<HashMap<String, String>> {
    let Some(inner) = data.inner(key)? else { return Ok(HashMap::new()) };
    let texts = inner.entries().map(|(name, value)| match value {
        Value::Text(text) => Ok((name.clone(), text.clone())),
        _ => Err(data.error(format!("`{key}` has a value that is not a string"))),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(line: &str) -> Result<Option<pb::StudyPart>> {
        part(&JsonObject::parse(Path::new("studies.jsonl"), 1, line).unwrap())
    }

    #[test]
    fn parts_round_trip_to_the_bit() {
        let param = |name: &str, value| studies::TrialParam {
            name: name.to_owned(),
            value,
            distribution: "{\"name\": \"x\"}".to_owned(),
            set_us: 1_700_000_000_123_457,
        };
        let trial = studies::Trial {
            number: 7,
            state: studies::TrialState::Pruned.into(),
            values: vec![1.0, -0.0, f64::INFINITY, f64::from_bits(0x7ff8_dead_0000_0001)],
            started_us: Some(1_700_000_000_123_457),
            finished_us: None,
            params: vec![param("", 0.1), param("ü", 1e300)],
            user_attributes: [("k\n".to_owned(), "NaN".to_owned())].into(),
            system_attributes: [("".to_owned(), "{}".to_owned())].into(),
            intermediate_values: [(-1, f64::NEG_INFINITY), (1 << 40, 2.0)].into(),
            run_id: "r".to_owned(),
        };
        let description = pb::StudyDescription {
            name: "s".into(),
            directions: vec![studies::Direction::Maximize.into(), studies::Direction::Minimize.into()],
            created_us: 5,
            experiment: Some(pb::Link { id: "e".into(), name: "n".into() }),
            trial_count: 8,
        };
        let attribute = pb::StudyAttribute {
            kind: studies::AttributeKind::System.into(),
            attribute: Some(studies::Attribute { key: "k".into(), value: "1".into() }),
        };
        for content in [Content::Attribute(attribute), Content::Trial(trial), Content::Study(description)] {
            let given = pb::StudyPart { study_id: 3, content: Some(content) };
            let line = part_line(&given);
            let found = read(&line).unwrap().unwrap();
            // NaN does not equal itself.
            assert_eq!(part_line(&found), line);
            assert_eq!(format!("{found:?}").len(), format!("{given:?}").len(), "{line}");
        }
        let continued = studies::Trial { number: 1, ..studies::Trial::default() };
        let given = pb::StudyPart { study_id: 3, content: Some(Content::Trial(continued)) };
        assert_eq!(read(&part_line(&given)).unwrap(), Some(given));
    }

    #[test]
    fn invalid_parts_are_refused() {
        assert_eq!(read(r#"{"study_id": 1, "type": "later", "data": {}}"#).unwrap(), None);
        for wrong in [
            r#"{"study_id": 1, "type": "trial"}"#,
            r#"{"study_id": -1, "type": "trial", "data": {}}"#,
            r#"{"study_id": 1, "type": "trial", "data": {"state": "odd"}}"#,
            r#"{"study_id": 1, "type": "trial", "data": {"values": ["x"]}}"#,
            r#"{"study_id": 1, "type": "trial", "data": {"params": [["x", 1.0]]}}"#,
            r#"{"study_id": 1, "type": "trial", "data": {"user_attributes": {"k": 1}}}"#,
            r#"{"study_id": 1, "type": "attribute", "data": {"kind": "odd", "key": "", "value": ""}}"#,
            r#"{"study_id": 1, "type": "study", "data": {"name": "s", "directions": ["up"]}}"#,
        ] {
            read(wrong).unwrap_err();
        }
    }
}
