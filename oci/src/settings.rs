//! Sizes and durations as people write them in configuration: `"10 GiB"`, `"300ms"`, `"24h"`.

use std::{fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes. Written as a number, or with one of B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB
/// (powers of 1024); the space between is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time. Written as a number with one of ms, s, m, h, d; `"1h30m"` adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Why a text is no size or span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// Not a size.
    #[error("{0:?} is not a size; write for example \"512 MiB\" or \"10 GB\"")]
    Size(String),
    /// Not a span.
    #[error("{0:?} is not a duration; write for example \"300ms\", \"5s\" or \"1h30m\"")]
    Span(String),
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Size {
    /// `count` mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

impl FromStr for Size {
    type Err = InvalidQuantity;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidQuantity::Size(s.to_owned());
        let text = s.trim();
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let unit = text[digits..].trim();
        let factor = match unit {
            "" => 1,
            unit => {
                SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(invalid)?.1
            }
        };
        let (whole, fraction) = text[..digits].split_once('.').unwrap_or((&text[..digits], ""));
        let number: u64 = whole.parse().map_err(|_why| invalid())?;
        let bytes = number.checked_mul(factor).ok_or_else(invalid)?;
        if fraction.is_empty() {
            return Ok(Self(bytes));
        }
        let scale = 10_u64
            .checked_pow(u32::try_from(fraction.len()).map_err(|_why| invalid())?)
            .ok_or_else(invalid)?;
        let part = u128::from(fraction.parse::<u64>().map_err(|_why| invalid())?) * u128::from(factor)
            / u128::from(scale);
        let part = u64::try_from(part).map_err(|_why| invalid())?;
        bytes.checked_add(part).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        match SIZE_UNITS[..4].iter().find(exact).or_else(|| SIZE_UNITS[4..].iter().find(exact)) {
            Some((name, factor)) => write!(f, "{} {name}", self.0 / factor),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl FromStr for Span {
    type Err = InvalidQuantity;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidQuantity::Span(s.to_owned());
        let mut rest = s.trim();
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_why| invalid())?;
            let tail = rest[digits..].trim_start();
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (_, factor) =
                SPAN_UNITS.iter().find(|(name, _)| *name == &tail[..letters]).ok_or_else(invalid)?;
            total = number.checked_mul(*factor).and_then(|ms| total.checked_add(ms)).ok_or_else(invalid)?;
            rest = tail[letters..].trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let exact =
            |unit: &&(&str, u64)| millis >= u128::from(unit.1) && millis.is_multiple_of(u128::from(unit.1));
        match SPAN_UNITS.iter().find(exact) {
            Some((name, factor)) => write!(f, "{}{name}", millis / u128::from(*factor)),
            None => write!(f, "{millis}ms"),
        }
    }
}

macro_rules! quantity {
    ($type:ident, $name:literal, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $pattern})
            }
        }
    };
}

quantity!(Size, "Size", "size");
quantity!(Span, "Span", "duration");

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"10 GiB\", or a number of bytes")
            }

            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Size, E> {
                u64::try_from(v).map(Size).map_err(|_why| E::custom(InvalidQuantity::Size(v.to_string())))
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Size, E> {
                Ok(Size(v))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Size, E> {
                v.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_and_spans_are_read_as_people_write_them() {
        let size = |text: &str| text.parse::<Size>().map(|s| s.0).ok();
        assert_eq!(size("10 GiB"), Some(10 << 30));
        assert_eq!(size("1.5MB"), Some(1_500_000));
        assert_eq!(size("4096"), Some(4096));
        for bad in ["", "GiB", "-1", "1 XB", "99999999999 TiB", "1.2.3 MB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        let span = |text: &str| text.parse::<Span>().map(|s| s.0.as_millis()).ok();
        assert_eq!(span("300ms"), Some(300));
        assert_eq!(span("1h30m"), Some(5_400_000));
        assert_eq!(span("0s"), Some(0));
        for bad in ["", "5", "s", "1 year", "-1s", "99999999999999999999d"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: u64, millis in 0..u64::MAX / 2) {
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>(), Ok(Size(bytes)));
            let span = Span(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Size>();
            let _ = text.parse::<Span>();
        }
    }
}
