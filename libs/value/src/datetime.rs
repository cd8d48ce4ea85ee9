//! Times in microseconds since the Unix epoch, and their text.
//!
//! Clients write ISO 8601 with or without a time zone, only a date, or Unix seconds. A time without
//! a zone is in UTC, and digits beyond microseconds are dropped. The server writes UTC.

use std::fmt::Arguments;

/// Numbers above this are milliseconds: as seconds, they would be after the year 2600.
const MILLISECONDS_FROM: f64 = 2e10;

/// End of the year 9999 in Unix seconds, the last year in the calendars of clients.
const MAX_SECONDS: f64 = 253_402_300_800.0;

const SECOND_US: i64 = 1_000_000;
const DAY_S: i64 = 86_400;

/// Number of days from March 1 of the year 0 to the Unix epoch.
const EPOCH_DAY: i64 = 719_468;

/// Parses a time in any form that clients use.
///
/// ```
/// # use matyan_value::datetime;
/// assert_eq!(datetime::parse("1970-01-01T01:00:01.5+01:00"), Some(1_500_000));
/// assert_eq!(datetime::parse("1.5"), Some(1_500_000));
/// assert_eq!(datetime::parse("yesterday"), None);
/// ```
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    parse_iso(text.as_bytes()).or_else(|| from_number(text.parse().ok()?))
}

/// Converts Unix seconds, or milliseconds if the number is too large for seconds.
pub fn from_number(number: f64) -> Option<i64> {
    let seconds = if number.abs() > MILLISECONDS_FROM { number / 1e3 } else { number };
    (seconds.abs() < MAX_SECONDS).then(|| (seconds * 1e6).round() as i64)
}

fn parse_iso(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return None };
    let days = days_from_date(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?)?;
    let midnight = days * DAY_S * SECOND_US;
    let Some((b'T' | b't' | b' ' | b'_', time)) = rest.split_first() else {
        return rest.is_empty().then_some(midnight);
    };
    let (of_day, zone) = time_of_day(time)?;
    Some(midnight + of_day - offset(zone)? * 60 * SECOND_US)
}

/// Parses `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f…` as microseconds, and returns the remaining bytes.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (&[h1, h2, b':', m1, m2], mut rest) = text.split_first_chunk::<5>()? else { return None };
    let hour = number(&[h1, h2])?;
    let minute = number(&[m1, m2])?;
    let mut second = 0;
    let mut micros = 0;
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
    Some((((hour * 60 + minute) * 60 + second) * SECOND_US + micros, rest))
}

/// Offset of a time zone from UTC in minutes.
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

/// Days from the Unix epoch to a date of the Gregorian calendar. Years start in March here, so that
/// the leap day is the last day of a year.
fn days_from_date(year: i64, month: i64, day: i64) -> Option<i64> {
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
    Some(days_before + of_year - EPOCH_DAY)
}

/// Year, month, and day from days since the Unix epoch.
fn date_from_days(days: i64) -> (i64, i64, i64) {
    /// Number of days in 400 years, the period of the calendar.
    const CYCLE: i64 = 146_097;
    let days = days + EPOCH_DAY;
    let of_cycle = days.rem_euclid(CYCLE);
    let year_of_cycle = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = days.div_euclid(CYCLE) * 400 + year_of_cycle;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// Date and time in UTC, in the years 1 to 9999 that Python supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtcTime {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
    microsecond: i64,
}

impl UtcTime {
    /// The Unix epoch.
    pub const EPOCH: Self = Self { year: 1970, month: 1, day: 1, second_of_day: 0, microsecond: 0 };

    /// Returns `None` for a time outside of the years that clients support.
    pub fn from_us(us: i64) -> Option<Self> {
        let seconds = us.div_euclid(SECOND_US);
        let (year, month, day) = date_from_days(seconds.div_euclid(DAY_S));
        (1..=9999).contains(&year).then_some(Self {
            year,
            month,
            day,
            second_of_day: seconds.rem_euclid(DAY_S),
            microsecond: us.rem_euclid(SECOND_US),
        })
    }

    /// Returns the date, such as `2026-01-02`.
    pub fn date(self) -> String {
        let Self { year, month, day, .. } = self;
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// Returns the hour of the day.
    pub fn hour(self) -> i64 {
        self.second_of_day / 3_600
    }

    /// Returns RFC 3339 text with milliseconds, such as `2026-01-02T03:04:05.678Z`.
    pub fn millis(self) -> String {
        self.text(format_args!(".{:03}Z", self.microsecond / 1_000))
    }

    /// Returns RFC 3339 text with microseconds, such as `2026-01-02T03:04:05.678901Z`.
    ///
    /// ```
    /// # use matyan_value::datetime::UtcTime;
    /// assert_eq!(UtcTime::from_us(-1).unwrap().micros(), "1969-12-31T23:59:59.999999Z");
    /// ```
    pub fn micros(self) -> String {
        self.text(format_args!(".{:06}Z", self.microsecond))
    }

    /// Returns the text of Python's `isoformat`, which omits zero microseconds, such as
    /// `2026-01-02T03:04:05+00:00`.
    pub fn isoformat(self) -> String {
        match self.microsecond {
            0 => self.text(format_args!("+00:00")),
            micros => self.text(format_args!(".{micros:06}+00:00")),
        }
    }

    /// Date and time in seconds, followed by `end`.
    fn text(self, end: Arguments<'_>) -> String {
        let Self { year, month, day, second_of_day, .. } = self;
        let hour = second_of_day / 3_600;
        let minute = second_of_day / 60 % 60;
        let second = second_of_day % 60;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        for (text, expected) in [
            ("2024-01-02T03:04:05+00:00", Some(1_704_164_645_000_000)),
            ("2024-01-02T03:04:05Z", Some(1_704_164_645_000_000)),
            ("2024-01-02T03:04:05.678901Z", Some(1_704_164_645_678_901)),
            ("2024-01-02T05:04:05+02:00", Some(1_704_164_645_000_000)),
            ("2024-01-02T03:04:05", Some(1_704_164_645_000_000)),
            ("2024-01-02 03:04:05", Some(1_704_164_645_000_000)),
            ("2024-01-02", Some(1_704_153_600_000_000)),
            ("1704164645", Some(1_704_164_645_000_000)),
            ("1704164645000", Some(1_704_164_645_000_000)),
            ("yesterday", None),
            ("", None),
            ("NaN", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(from_number(1.5), Some(1_500_000));
        assert_eq!(from_number(f64::INFINITY), None);
    }

    #[test]
    fn every_day_of_the_calendar_is_read_back() {
        let first = days_from_date(1, 1, 1).unwrap();
        let last = days_from_date(9999, 12, 31).unwrap();
        for day in first..=last {
            let (year, month, of_month) = date_from_days(day);
            assert_eq!(days_from_date(year, month, of_month), Some(day));
        }
        let us = |day: i64| day * DAY_S * SECOND_US;
        assert!(UtcTime::from_us(us(first)).is_some() && UtcTime::from_us(us(first) - 1).is_none());
        assert!(UtcTime::from_us(us(last + 1) - 1).is_some() && UtcTime::from_us(us(last + 1)).is_none());
        assert_eq!(UtcTime::from_us(0), Some(UtcTime::EPOCH));
    }

    #[test]
    fn times_are_written_in_utc() {
        let time = UtcTime::from_us(1_704_164_645_678_901).unwrap();
        assert_eq!(time.micros(), "2024-01-02T03:04:05.678901Z");
        assert_eq!(time.millis(), "2024-01-02T03:04:05.678Z");
        assert_eq!(time.isoformat(), "2024-01-02T03:04:05.678901+00:00");
        assert_eq!(UtcTime::EPOCH.isoformat(), "1970-01-01T00:00:00+00:00");
        assert_eq!(UtcTime::EPOCH.micros(), "1970-01-01T00:00:00.000000Z");
    }
}
