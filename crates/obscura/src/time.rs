//! A time that is told on the command line.

use std::{fmt, str::FromStr};

use anyhow::{Context, ensure};

/// Seconds since 1970, in UTC, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) u64);

const DAY_SECS: u64 = 86_400;

impl FromStr for At {
    type Err = anyhow::Error;

    /// Seconds since 1970, or RFC 3339 §5.6: `2027-01-15T08:00:00Z`, `…+01:00`. Fractions are refused:
    /// nothing here is that exact.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self(text.parse().context("too many seconds")?));
        }
        rfc3339(text).context("must be seconds since 1970, or as 2027-01-15T08:00:00Z").map(Self)
    }
}

impl fmt::Display for At {
    /// As RFC 3339, in UTC; seconds beyond the year 9999.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0 / DAY_SECS;
        let (year, month, day) = civil(days);
        if year > 9999 {
            return write!(f, "{} s", self.0);
        }
        let (hours, minutes, seconds) = (self.0 / 3600 % 24, self.0 / 60 % 60, self.0 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
    }
}

fn rfc3339(text: &str) -> anyhow::Result<u64> {
    ensure!(text.is_ascii() && text.len() >= 20, "not a time");
    let number = |from: usize, to: usize| -> anyhow::Result<u64> {
        let digits = &text[from..to];
        ensure!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits} is no number");
        Ok(digits.parse()?)
    };
    let marks = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")];
    for (at, allowed) in marks {
        ensure!(allowed.contains(&text[at..=at]), "no {allowed} at {at}");
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hours, minutes, seconds) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    ensure!(hours < 24 && minutes < 60 && seconds < 60, "no time of a day");
    let days = days_since_1970(year, month, day).context("no day of the calendar")?;
    let local = days * DAY_SECS + hours * 3600 + minutes * 60 + seconds;
    let zone = &text[19..];
    if matches!(zone, "Z" | "z") {
        return Ok(local);
    }
    ensure!(zone.len() == 6 && &zone[3..4] == ":", "no zone at the end: Z, or +01:00");
    let (hours, minutes) = (number(20, 22)?, number(23, 25)?);
    ensure!(hours < 24 && minutes < 60, "no zone");
    let offset = hours * 3600 + minutes * 60;
    match &zone[..1] {
        "+" => local.checked_sub(offset).context("before 1970"),
        "-" => Ok(local + offset),
        _ => anyhow::bail!("no zone"),
    }
}

/// Of the Gregorian calendar, from 1970 on.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let exists = year >= 1970 && (1..=12).contains(&month);
    if !exists || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let years: u64 = (1970..year).map(year_days).sum();
    let months: u64 = (1..month).map(|month| month_days(year, month)).sum();
    Some(years + months + day - 1)
}

/// Year, month and day of a day since 1970. Years end at 10,000: what is later is not written out.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while year < 10_000 && days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days >= month_days(year, month) {
        days -= month_days(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_days(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, secs) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2027-01-15T08:00:00Z", 1_800_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(text.parse::<At>().unwrap(), At(secs));
            assert_eq!(At(secs).to_string(), text);
        }
        assert_eq!("2027-01-15T09:30:00+01:30".parse::<At>().unwrap(), At(1_800_000_000));
        assert_eq!("2027-01-15t07:00:00-01:00".parse::<At>().unwrap(), At(1_800_000_000));
        assert_eq!("1800000000".parse::<At>().unwrap(), At(1_800_000_000));
        assert_eq!(At(u64::MAX).to_string(), format!("{} s", u64::MAX));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "now",
            "99999999999999999999",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "2027-01-15T08:00:00.5Z",
            "2027-02-29T08:00:00Z",
            "2027-13-01T08:00:00Z",
            "2027-00-01T08:00:00Z",
            "2027-01-00T08:00:00Z",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:00:60Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "2027-01-15T08:00:00+1:00",
            "2027-01-15T08:00:00Zx",
            "+027-01-15T08:00:00Z",
            "２027-01-15T08:00:00Z",
        ] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
