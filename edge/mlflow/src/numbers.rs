//! Numbers in requests and answers. Numbers without a finite value are texts in both directions, and integers
//! of 64 bits may be texts in requests.

use serde_json::Value;

/// Reads a float.
pub(crate) fn read_float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            // `parse` also accepts names, such as `inf`.
            text if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
                text.parse().ok()
            }
            _ => None,
        },
        _ => None,
    }
}

/// Reads an integer.
pub(crate) fn read_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The integer that a float is equal to.
fn whole(number: f64) -> Option<i64> {
    // Both limits are exact as floats, and the upper limit is the first number that does not fit.
    let fits = number.fract() == 0.0
        && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    #[expect(clippy::cast_possible_truncation, reason = "it is used only if it fits")]
    let integer = number as i64;
    fits.then_some(integer)
}

/// A float in an answer.
pub(crate) fn float(value: f64) -> Value {
    if value.is_nan() {
        return "NaN".into();
    }
    match value {
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        finite => finite.into(),
    }
}

/// A float as Python writes it, which is the form in which MLflow's clients send params.
pub(crate) fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        // The shortest digits without an exponent; Python always writes a decimal point.
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_without_a_finite_value_are_texts() {
        for (value, expected) in [
            (json!(1), Some(1.0)),
            (json!(-0.5), Some(-0.5)),
            (json!("1e3"), Some(1e3)),
            (json!("Infinity"), Some(f64::INFINITY)),
            (json!("-Infinity"), Some(f64::NEG_INFINITY)),
            (json!("inf"), None),
            (json!("x"), None),
            (json!(""), None),
            (json!(true), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            assert_eq!(read_float(&value), expected, "{value}");
        }
        assert!(read_float(&json!("NaN")).unwrap().is_nan());
        for value in [f64::INFINITY, f64::NEG_INFINITY, 0.1, -0.0] {
            assert_eq!(read_float(&float(value)).unwrap().to_bits(), value.to_bits());
        }
        assert_eq!(float(f64::NAN), json!("NaN"));
    }

    #[test]
    fn integers_may_be_texts() {
        for (value, expected) in [
            (json!(7), Some(7)),
            (json!("7"), Some(7)),
            (json!(7.0), Some(7)),
            (json!(i64::MIN), Some(i64::MIN)),
            (json!("9223372036854775808"), None),
            (json!(1e19), None),
            (json!(7.5), None),
            (json!("x"), None),
        ] {
            assert_eq!(read_integer(&value), expected, "{value}");
        }
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, expected) in [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e300, "1.25e+300"),
        ] {
            assert_eq!(python_float(value), expected);
        }
    }

    proptest! {
        #[test]
        fn a_float_is_read_back(value in any::<f64>()) {
            let read: f64 = python_float(value).parse().unwrap();
            prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()));
        }
    }
}
