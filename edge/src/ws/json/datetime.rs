//! Points in time as clients write them: ISO 8601 with or without a zone, a date alone, or Unix seconds.
//! Without a zone it is UTC. Digits past the microsecond are dropped.

/// Numbers beyond this are milliseconds, not seconds: as seconds they would lie past the year 2600.
const MILLISECONDS_FROM: f64 = 2e10;

/// The end of the year 9999 in seconds: what no calendar of a client can write.
const MAX_SECONDS: f64 = 253_402_300_800.0;

/// Microseconds since the Unix epoch.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    parse_iso(text.as_bytes()).or_else(|| from_number(text.parse().ok()?))
}

/// Unix seconds, or milliseconds when too large for seconds.
pub(super) fn from_number(number: f64) -> Option<i64> {
    let seconds = if number.abs() > MILLISECONDS_FROM { number / 1e3 } else { number };
    (seconds.abs() < MAX_SECONDS).then(|| (seconds * 1e6).round() as i64)
}

fn parse_iso(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return None };
    let days = days_from_civil(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?)?;
    let midnight = days * 86_400 * 1_000_000;
    let Some((b'T' | b't' | b' ' | b'_', time)) = rest.split_first() else {
        return rest.is_empty().then_some(midnight);
    };
    let (of_day, zone) = time_of_day(time)?;
    Some(midnight + of_day - offset(zone)? * 60 * 1_000_000)
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f…` in microseconds, and what follows it.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (&[h1, h2, b':', m1, m2], mut rest) = text.split_first_chunk::<5>()? else { return None };
    let (hour, minute) = (number(&[h1, h2])?, number(&[m1, m2])?);
    let (mut second, mut micros) = (0, 0);
    if let Some((&[b':', s1, s2], after)) = rest.split_first_chunk::<3>() {
        second = number(&[s1, s2])?;
        rest = after;
        if let Some((b'.' | b',', after)) = rest.split_first() {
            let count = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            let used = count.min(6);
            micros = number(&after[..used])? * 10_i64.pow(6 - used as u32);
            rest = &after[count..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((((hour * 60 + minute) * 60 + second) * 1_000_000 + micros, rest))
}

/// Minutes that the zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, digits) = match zone {
        [] | b"Z" | b"z" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (number(&[h1, h2])?, number(&[m1, m2])?),
        [h1, h2] => (number(&[h1, h2])?, 0),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// Days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day is the last one.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || !(1..=length).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days_before = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(days_before + of_year - 719_468)
}
