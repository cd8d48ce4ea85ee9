//! Distributions of params, from their JSON. A distribution defines the meaning of a sampler's number, and whether two
//! trials of a study sample the same param.

use matyan_value::{Map, Value, json};

use crate::server::error::{Error, Result};

/// The part of a distribution that decides about its params: the bounds may differ from trial to trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    Float { name: String, is_log: bool },
    Integer { name: String, is_log: bool },
    Categorical { choices: Vec<Value> },
}

/// The field of a request that holds a distribution.
const FIELD: &str = "param.distribution";

/// Maximum number of values in a distribution, where an object counts as ten: in memory, a value takes many times the
/// size of its text.
const MAX_VALUES: usize = 200_000;

impl Distribution {
    /// Reads the form `{"name": …, "attributes": {…}}`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if json::tree_weight(text.as_bytes()) > MAX_VALUES {
            let reason = format!(
                "has more than {MAX_VALUES} values, where an object counts as ten: give fewer choices"
            );
            return Err(Error::field(FIELD, reason));
        }
        let parsed =
            json::parse(text).map_err(|error| Error::field(FIELD, format!("is not JSON: {error}")))?;
        let wrong = || Error::field(FIELD, "must be an object with `name` and `attributes`");
        let Value::Map(mut object) = parsed else { return Err(wrong()) };
        let (Some(Value::Text(name)), Some(Value::Map(attributes))) =
            (object.remove("name"), object.remove("attributes"))
        else {
            return Err(wrong());
        };
        Self::of_class(name, attributes)
    }

    fn of_class(name: String, mut attributes: Map) -> Result<Self> {
        let is_log = attributes.get("log") == Some(&Value::Bool(true));
        match name.as_str() {
            "FloatDistribution"
            | "UniformDistribution"
            | "LogUniformDistribution"
            | "DiscreteUniformDistribution" => Ok(Self::Float { name, is_log }),
            "IntDistribution" | "IntUniformDistribution" | "IntLogUniformDistribution" => {
                Ok(Self::Integer { name, is_log })
            }
            "CategoricalDistribution" => match attributes.remove("choices") {
                Some(Value::List(choices)) if !choices.is_empty() => Ok(Self::Categorical { choices }),
                _ => Err(Error::field(FIELD, "has no `choices`")),
            },
            _ => Err(Error::field(FIELD, format!("has the class `{name}`, which is not known"))),
        }
    }

    /// The value of a sampler's number.
    pub(super) fn value(&self, number: f64) -> Result<Value> {
        match self {
            Self::Float { .. } => Ok(Value::Float(number)),
            Self::Integer { .. } => Ok(integer(number)),
            Self::Categorical { choices } => {
                let index = (number >= 0.0).then_some(number as usize);
                let choice = index.and_then(|index| choices.get(index));
                let count = choices.len();
                choice.cloned().ok_or_else(|| {
                    Error::field(
                        "param.value",
                        format!("is {number}, and the distribution has {count} choices"),
                    )
                })
            }
        }
    }

    /// Refuses a param that another trial of the study has sampled differently.
    pub(super) fn check_compatible(&self, first: &Self) -> Result<()> {
        if self == first {
            return Ok(());
        }
        let problem = match (self, first) {
            (Self::Categorical { .. }, Self::Categorical { .. }) => "has other choices than",
            _ => "is of another kind than",
        };
        let reason = format!("{problem} in an earlier trial of the study: give the param another name");
        Err(Error::field(FIELD, reason))
    }
}

/// An integer if the number is one, otherwise the number itself.
fn integer(number: f64) -> Value {
    // The bounds are the powers of two at which the conversion saturates.
    let is_integer = number.fract() == 0.0 && (-9.2e18..9.2e18).contains(&number);
    if is_integer { Value::Integer(number as i64) } else { Value::Float(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOAT: &str = r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": Infinity, "log": false}}"#;
    const LOG: &str = r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-5, "high": 1.0, "log": true}}"#;
    const INTEGER: &str =
        r#"{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 0, "high": 9}}"#;
    const CHOICES: &str =
        r#"{"name": "CategoricalDistribution", "attributes": {"choices": ["a", 1, null, NaN]}}"#;

    fn value(distribution: &str, number: f64) -> Option<Value> {
        Distribution::parse(distribution).unwrap().value(number).ok()
    }

    #[test]
    fn a_number_of_a_sampler_becomes_a_value() {
        assert_eq!(value(FLOAT, 0.5), Some(Value::Float(0.5)));
        assert_eq!(value(INTEGER, 5.0), Some(Value::Integer(5)));
        assert_eq!(value(INTEGER, -0.0), Some(Value::Integer(0)));
        assert_eq!(value(INTEGER, 1e300), Some(Value::Float(1e300)));
        assert_eq!(value(CHOICES, 0.0), Some(Value::Text("a".into())));
        assert_eq!(value(CHOICES, 2.0), Some(Value::Null));
        for outside in [4.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(value(CHOICES, outside), None, "{outside}");
        }
    }

    #[test]
    fn a_param_keeps_its_kind_in_a_study() {
        let other_bounds = FLOAT.replace("Infinity", "7.0");
        let other_choices = CHOICES.replace(r#""a", 1"#, r#"1, "a""#);
        let check = |one: &str, other: &str, expected: bool| {
            let [one, other] = [one, other].map(|text| Distribution::parse(text).unwrap());
            assert_eq!(one.check_compatible(&other).is_ok(), expected, "{one:?} {other:?}");
        };
        for same in [FLOAT, LOG, INTEGER, CHOICES] {
            check(same, same, true);
        }
        check(FLOAT, &other_bounds, true);
        check(FLOAT, LOG, false);
        check(FLOAT, INTEGER, false);
        check(CHOICES, FLOAT, false);
        check(CHOICES, &other_choices, false);
    }

    #[test]
    fn an_invalid_distribution_is_refused() {
        for text in [
            "",
            "1",
            "{}",
            r#"{"name": "FloatDistribution"}"#,
            r#"{"name": 1, "attributes": {}}"#,
            r#"{"name": "OtherDistribution", "attributes": {}}"#,
            r#"{"name": "CategoricalDistribution", "attributes": {"choices": []}}"#,
        ] {
            Distribution::parse(text).unwrap_err();
        }
    }
    #[test]
    fn rule_116_a_distribution_that_would_grow_is_not_parsed() {
        let choices = r#"{"":0},"#.repeat(MAX_VALUES / 11);
        let text =
            format!(r#"{{"name": "CategoricalDistribution", "attributes": {{"choices": [{choices}1]}}}}"#);
        let refused = Distribution::parse(&text).unwrap_err().to_string();
        assert!(refused.contains("200000 values"), "{refused:.200}");
    }
}
