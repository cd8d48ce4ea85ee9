//! Floats in fixed, scientific and general form; values are magnitudes, because the caller writes
//! the sign. Like C, Rust rounds the exact value half to even; only the form of exponents and
//! trailing zeros needs to be adapted to Python's.

/// Formats as `e`, `f`, `g`, `n` or `%`; the case of the kind is ignored.
pub(super) fn by_kind(value: f64, kind: char, precision: usize, alternate: bool) -> String {
    if !value.is_finite() {
        let text = if value.is_nan() { "nan" } else { "inf" };
        return if kind == '%' { format!("{text}%") } else { text.to_owned() };
    }
    let point = if alternate && precision == 0 { "." } else { "" };
    match kind.to_ascii_lowercase() {
        'e' => scientific(value, precision, point),
        'f' => format!("{value:.precision$}{point}"),
        '%' => format!("{:.precision$}{point}%", value * 100.0),
        _ => general(value, precision.max(1), alternate, false),
    }
}

fn scientific(value: f64, precision: usize, point: &str) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').expect("the `e` format always has an exponent");
    let exponent: i32 = exponent.parse().expect("the `e` format always has an exponent");
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}{point}e{sign}{:02}", exponent.abs())
}

/// Formats with this many significant digits, fixed or scientific depending on the magnitude.
/// With `float_like`, the result always looks like a float.
pub(super) fn general(value: f64, precision: usize, alternate: bool, float_like: bool) -> String {
    if !value.is_finite() {
        return by_kind(value, 'f', 0, false);
    }
    let rounded = format!("{value:.*e}", precision - 1);
    let (_, exponent) = rounded.split_once('e').expect("the `e` format always has an exponent");
    let exponent: i64 = exponent.parse().expect("the `e` format always has an exponent");
    let size = i64::try_from(precision).unwrap_or(i64::MAX);
    let most = if float_like { size - 1 } else { size };
    if exponent < -4 || exponent >= most.max(i64::from(!float_like)) {
        let text = scientific(value, precision - 1, if alternate && precision == 1 { "." } else { "" });
        let (digits, exponent) = text.split_once('e').expect("`scientific` always writes an exponent");
        let digits = if alternate { digits } else { without_zeros(digits) };
        return format!("{digits}e{exponent}");
    }
    let places = usize::try_from(size - 1 - exponent).unwrap_or(0);
    let text = format!("{value:.places$}");
    let text = if !alternate {
        without_zeros(&text).to_owned()
    } else if places == 0 {
        text + "."
    } else {
        text
    };
    if float_like && !text.contains('.') { text + ".0" } else { text }
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}
