//! A single time type: seconds as a float, with a calendar in the caller's time zone. Durations
//! are seconds as well, so a date, `run.created_at`, a number and their sums and differences
//! with `timedelta` are all comparable.

use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::arguments::{Arguments, bind_arguments};
use super::floats::floats;
use super::integer::real_of;
use super::{Arena, Exception, Result};
use crate::names::{Member, TimeFunction};
use crate::tree::Operator;
use crate::value::Value;

const MICROSECONDS: f64 = 1e6;

/// The current time, and the caller's time zone.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// Unix seconds.
    pub(super) now: f64,
    /// Minutes to add to local time to get UTC.
    pub(super) offset_minutes: i32,
}

impl Clock {
    /// `datetime(year, month, day, …)` in the caller's time zone.
    pub(super) fn make_time<'a>(self, arguments: Arguments<'a>) -> Result<Value<'a>> {
        const NAMES: [&str; 9] =
            ["year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo", "fold"];
        let parts = bind_arguments(arguments, NAMES, 3)?;
        if parts[7].is_some_and(|zone| !matches!(zone, Value::None)) {
            return Err(Exception::TypeError.into());
        }
        let mut fields = [0; 7];
        for (field, part) in fields.iter_mut().zip(parts) {
            *field = match part {
                None => 0,
                Some(Value::Big(_)) => return Err(Exception::OverflowError.into()),
                Some(value) => value.small_int().ok_or(Exception::TypeError)?,
            };
        }
        let local = civil(fields);
        self.local_time(local.ok_or(Exception::ValueError)?)
    }

    /// Converts a local time; UTC is local time plus the offset.
    fn local_time<'a>(self, local: PrimitiveDateTime) -> Result<Value<'a>> {
        shifted(local, i64::from(self.offset_minutes))
    }

    fn to_local(self, seconds: f64) -> Result<PrimitiveDateTime> {
        let microseconds = (seconds * MICROSECONDS).round_ties_even();
        if !microseconds.is_finite() {
            return Err(Exception::ValueError.into());
        }
        let utc = OffsetDateTime::from_unix_timestamp_nanos((microseconds as i128).saturating_mul(1_000));
        let local =
            utc.ok().and_then(|utc| utc.checked_sub(Duration::minutes(i64::from(self.offset_minutes))));
        // Python's calendar starts with year 1.
        let local = local.filter(|local| local.year() >= 1).ok_or(Exception::ValueError)?;
        Ok(PrimitiveDateTime::new(local.date(), local.time()))
    }

    pub(super) fn time_function<'a>(
        self,
        function: TimeFunction,
        arguments: Arguments<'a>,
    ) -> Result<Value<'a>> {
        match (function, arguments.positional) {
            (TimeFunction::Now | TimeFunction::UtcNow | TimeFunction::Today, [] | [Value::None]) => {
                Ok(Value::Time(self.now))
            }
            (
                TimeFunction::FromTimestamp | TimeFunction::UtcFromTimestamp,
                [seconds] | [seconds, Value::None],
            ) => {
                let seconds = real_of(*seconds)?;
                // Raises for times outside the calendar.
                self.to_local(seconds)?;
                Ok(Value::Time(seconds))
            }
            (TimeFunction::FromIsoFormat, [Value::Text(text)]) => self.parse_iso(text),
            _ => Err(Exception::TypeError.into()),
        }
    }

    /// Parses ISO 8601: a date with an optional time and an optional UTC offset.
    fn parse_iso<'a>(self, text: &str) -> Result<Value<'a>> {
        match parse_iso(text).ok_or(Exception::ValueError)? {
            (local, None) => self.local_time(local),
            (local, Some(offset)) => shifted(local, -offset),
        }
    }

    pub(super) fn time_field<'a>(self, seconds: f64, member: Member) -> Result<Option<Value<'a>>> {
        let number = match member {
            Member::Year => i64::from(self.to_local(seconds)?.year()),
            Member::Month => i64::from(u8::from(self.to_local(seconds)?.month())),
            Member::Day => i64::from(self.to_local(seconds)?.day()),
            Member::Hour => i64::from(self.to_local(seconds)?.hour()),
            Member::Minute => i64::from(self.to_local(seconds)?.minute()),
            Member::Second => i64::from(self.to_local(seconds)?.second()),
            Member::Microsecond => i64::from(self.to_local(seconds)?.microsecond()),
            Member::Real => return Ok(Some(Value::Float(seconds))),
            Member::Imag => return Ok(Some(Value::Float(0.0))),
            _ => return Ok(None),
        };
        Ok(Some(Value::Int(number)))
    }

    pub(super) fn time_method<'a>(
        self,
        arena: &Arena<'a>,
        seconds: f64,
        member: Member,
        arguments: Arguments<'a>,
    ) -> Result<Value<'a>> {
        if member == Member::Replace {
            return self.replace_time(seconds, arguments);
        }
        match (member, arguments.positional) {
            (Member::Timestamp, []) => Ok(Value::Float(seconds)),
            (Member::Weekday, []) => {
                Ok(Value::Int(i64::from(self.to_local(seconds)?.weekday().number_days_from_monday())))
            }
            (Member::IsoWeekday, []) => {
                Ok(Value::Int(i64::from(self.to_local(seconds)?.weekday().number_from_monday())))
            }
            (Member::Date, []) => self.local_time(self.to_local(seconds)?.replace_time(Time::MIDNIGHT)),
            (Member::IsoFormat, []) => arena.text(&iso(self.to_local(seconds)?, 'T')),
            (Member::IsoFormat, [Value::Text(separator)]) => {
                let mut characters = separator.chars();
                match (characters.next(), characters.next()) {
                    (Some(separator), None) => arena.text(&iso(self.to_local(seconds)?, separator)),
                    _ => Err(Exception::TypeError.into()),
                }
            }
            (Member::StrfTime, [Value::Text(format)]) => {
                let text = self.strftime(arena, seconds, format)?;
                arena.text(&text)
            }
            _ => Err(Exception::TypeError.into()),
        }
    }

    fn replace_time<'a>(self, seconds: f64, arguments: Arguments<'a>) -> Result<Value<'a>> {
        const NAMES: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "microsecond"];
        let local = self.to_local(seconds)?;
        let mut parts = [
            i64::from(local.year()),
            i64::from(u8::from(local.month())),
            i64::from(local.day()),
            i64::from(local.hour()),
            i64::from(local.minute()),
            i64::from(local.second()),
            i64::from(local.microsecond()),
        ];
        for (part, given) in parts.iter_mut().zip(bind_arguments(arguments, NAMES, 0)?) {
            if let Some(given) = given {
                *part = given.small_int().ok_or(Exception::TypeError)?;
            }
        }
        self.local_time(civil(parts).ok_or(Exception::ValueError)?)
    }

    pub(super) fn strftime(self, arena: &Arena<'_>, seconds: f64, format: &str) -> Result<String> {
        arena.spend_bytes(format.len())?;
        let local = self.to_local(seconds)?;
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            match character {
                '%' => strftime_part(&mut text, local, seconds, characters.next()),
                other => text.push(other),
            }
        }
        Ok(text)
    }
}

/// `timedelta(days, seconds, microseconds, milliseconds, minutes, hours, weeks)`, with
/// microsecond precision.
pub(super) fn make_span<'a>(arguments: Arguments<'a>) -> Result<Value<'a>> {
    const NAMES: [&str; 7] = ["days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks"];
    const UNITS: [f64; 7] = [86_400e6, 1e6, 1.0, 1e3, 60e6, 3_600e6, 604_800e6];
    let mut microseconds = 0.0;
    for (part, unit) in bind_arguments(arguments, NAMES, 0)?.into_iter().zip(UNITS) {
        if let Some(part) = part {
            microseconds += real_of(part)? * unit;
        }
    }
    if microseconds.is_nan() {
        return Err(Exception::ValueError.into());
    }
    // The largest `timedelta` of Python.
    if microseconds.abs() > 999_999_999.0 * UNITS[0] {
        return Err(Exception::OverflowError.into());
    }
    Ok(Value::Span(microseconds.round_ties_even() / MICROSECONDS))
}

pub(super) fn time_arithmetic<'a>(
    operator: Operator,
    left: Value<'a>,
    right: Value<'a>,
) -> Result<Value<'a>> {
    let result = floats(operator, real_of(left)?, real_of(right)?)?;
    let Value::Float(result) = result else { return Ok(result) };
    Ok(match (operator, left, right) {
        (Operator::Subtract, Value::Time(_), Value::Time(_)) => Value::Span(result),
        (Operator::Add | Operator::Subtract, Value::Time(_), _) => Value::Time(result),
        (Operator::Add, _, Value::Time(_)) => Value::Time(result),
        (Operator::Add | Operator::Subtract | Operator::Modulo, Value::Span(_), Value::Span(_)) => {
            Value::Span(result)
        }
        (Operator::Multiply | Operator::Divide, Value::Span(_), Value::Int(_) | Value::Float(_)) => {
            Value::Span(result)
        }
        (Operator::Multiply, Value::Int(_) | Value::Float(_), Value::Span(_)) => Value::Span(result),
        _ => Value::Float(result),
    })
}

fn strftime_part(text: &mut String, local: PrimitiveDateTime, seconds: f64, directive: Option<char>) {
    let hour12 = (local.hour() + 11) % 12 + 1;
    let part = match directive {
        Some('Y') => local.year().to_string(),
        Some('y') => format!("{:02}", local.year().rem_euclid(100)),
        Some('m') => format!("{:02}", u8::from(local.month())),
        Some('d') => format!("{:02}", local.day()),
        Some('H') => format!("{:02}", local.hour()),
        Some('I') => format!("{hour12:02}"),
        Some('M') => format!("{:02}", local.minute()),
        Some('S') => format!("{:02}", local.second()),
        Some('f') => format!("{:06}", local.microsecond()),
        Some('p') => if local.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        Some('j') => format!("{:03}", local.ordinal()),
        Some('A') => local.weekday().to_string(),
        Some('a') => local.weekday().to_string()[..3].to_owned(),
        Some('B') => local.month().to_string(),
        Some('b' | 'h') => local.month().to_string()[..3].to_owned(),
        Some('w') => local.weekday().number_days_from_sunday().to_string(),
        Some('u') => local.weekday().number_from_monday().to_string(),
        Some('U') => format!("{:02}", local.sunday_based_week()),
        Some('W') => format!("{:02}", local.monday_based_week()),
        Some('V') => format!("{:02}", local.iso_week()),
        Some('G') => local.to_iso_week_date().0.to_string(),
        Some('F') => iso(local, 'T')[..10].to_owned(),
        Some('T') => iso(local, 'T')[11..19].to_owned(),
        Some('s') => format!("{seconds:.0}"),
        Some('%') => "%".to_owned(),
        Some(other) => format!("%{other}"),
        None => "%".to_owned(),
    };
    text.push_str(&part);
}

/// Formats as `2024-01-02T03:04:05`, with nonzero microseconds.
fn iso(local: PrimitiveDateTime, separator: char) -> String {
    let year = local.year();
    let month = u8::from(local.month());
    let day = local.day();
    let hour = local.hour();
    let minute = local.minute();
    let second = local.second();
    let fraction = match local.microsecond() {
        0 => String::new(),
        microsecond => format!(".{microsecond:06}"),
    };
    format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}")
}

/// Returns the Unix seconds of a civil time. UTC is ahead of it by `minutes`.
fn shifted<'a>(local: PrimitiveDateTime, minutes: i64) -> Result<Value<'a>> {
    let utc = local.assume_utc().checked_add(Duration::minutes(minutes)).ok_or(Exception::OverflowError)?;
    Ok(Value::Time((utc.unix_timestamp_nanos() / 1_000) as f64 / MICROSECONDS))
}

fn civil([year, month, day, hour, minute, second, microsecond]: [i64; 7]) -> Option<PrimitiveDateTime> {
    let year = i32::try_from(year).ok().filter(|year| (1..=9999).contains(year))?;
    let month = Month::try_from(small(month)?).ok()?;
    let date = Date::from_calendar_date(year, month, small(day)?).ok()?;
    let microsecond = u32::try_from(microsecond).ok()?;
    let time = Time::from_hms_micro(small(hour)?, small(minute)?, small(second)?, microsecond).ok()?;
    Some(PrimitiveDateTime::new(date, time))
}

fn small(part: i64) -> Option<u8> {
    u8::try_from(part).ok()
}

/// Parses a civil time, with the UTC offset in minutes if the text has one.
fn parse_iso(text: &str) -> Option<(PrimitiveDateTime, Option<i64>)> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-').map(parse_digits);
    let year = parts.next()??;
    let month = parts.next()??;
    let day = parts.next()??;
    let Some(rest) = rest.strip_prefix(['T', ' ', 't']) else {
        return (rest.is_empty() && parts.next().is_none())
            .then(|| civil([year, month, day, 0, 0, 0, 0]))
            .flatten()
            .map(|local| (local, None));
    };
    let zone = rest.find(['Z', 'z', '+', '-']);
    let (clock, offset) = rest.split_at(zone.unwrap_or(rest.len()));
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let mut clock = clock.split(':').map(parse_digits);
    let hour = clock.next()??;
    let minute = clock.next().unwrap_or(Some(0))?;
    let second = clock.next().unwrap_or(Some(0))?;
    let microsecond = match fraction {
        "" => 0,
        // Padded or truncated to microseconds.
        digits => parse_digits(&format!("{digits:0<6.6}"))?,
    };
    let offset = match offset {
        "" => None,
        "Z" | "z" => Some(0),
        offset => Some(parse_offset(offset)?),
    };
    Some((civil([year, month, day, hour, minute, second, microsecond])?, offset))
}

fn parse_offset(offset: &str) -> Option<i64> {
    let (sign, digits) = offset.split_at_checked(1)?;
    let digits = digits.replace(':', "");
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { parse_digits(minutes)? };
    let offset = parse_digits(hours)? * 60 + minutes;
    (offset < 24 * 60).then_some(if sign == "-" { -offset } else { offset })
}

fn parse_digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Returns days, seconds or microseconds as `timedelta` normalizes them.
pub(super) fn span_field<'a>(seconds: f64, member: Member) -> Option<Value<'a>> {
    let microseconds = (seconds * MICROSECONDS).round_ties_even();
    let day = 86_400.0 * MICROSECONDS;
    let days = (microseconds / day).floor();
    let rest = microseconds - days * day;
    Some(match member {
        Member::Days => Value::Int(days as i64),
        Member::Seconds => Value::Int((rest / MICROSECONDS).floor() as i64),
        Member::Microseconds => Value::Int((rest % MICROSECONDS) as i64),
        Member::Real => Value::Float(seconds),
        Member::Imag => Value::Float(0.0),
        _ => return None,
    })
}
