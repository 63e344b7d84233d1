//! Kubernetes resource quantities (`100m`, `1.5`, `128Mi`, `1G`, `1e3`), parsed exactly, never through floating point.
//!
//! Grammar and rounding follow upstream's `resource.Quantity`: a decimal number, then a binary suffix, a decimal suffix
//! or a decimal exponent; what is finer than one billionth is rounded up, as is every conversion to whole units.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Billionths in one unit: the finest step a quantity can hold, as upstream.
const NANO: i128 = 1_000_000_000;

/// Longest text accepted. No sensible quantity needs more, and it bounds the arithmetic.
const MAX_LEN: usize = 32;

/// An amount of CPU (in CPUs) or memory (in bytes), exact to a billionth.
///
/// Equality and order are those of the amount: `1000m` equals `1`. The text is kept so that a config prints as written.
#[derive(Clone, Debug)]
pub struct Quantity {
    text: String,
    nanos: i128,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No digits, or something that is no number before the suffix.
    #[error("is not a number with an optional suffix")]
    Number,
    /// Below zero; no resource can be.
    #[error("is negative")]
    Negative,
    /// The letters behind the number are no suffix of upstream's.
    #[error("has an unknown suffix")]
    Suffix,
    /// Above 2^63 - 1 units, upstream's limit, or too long to be sensible.
    #[error("is too large")]
    TooLarge,
}

impl Quantity {
    /// The amount in thousandths, rounded up: millicores for CPU.
    #[must_use]
    pub fn millis(&self) -> u64 {
        whole(self.nanos, NANO / 1000)
    }

    /// The amount in whole units, rounded up: bytes for memory.
    #[must_use]
    pub fn units(&self) -> u64 {
        whole(self.nanos, NANO)
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the amount is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// True when the amount is a whole number of units: of bytes, for memory.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// True when the amount is a whole number of thousandths: of millicores, for CPU.
    #[must_use]
    pub fn is_whole_in_thousandths(&self) -> bool {
        self.nanos % (NANO / 1000) == 0
    }

    /// So many whole units, written as a plain number.
    #[must_use]
    pub fn from_units(units: u32) -> Self {
        Self { text: units.to_string(), nanos: i128::from(units) * NANO }
    }

    /// So many mebibytes, written with the suffix `Mi`.
    #[must_use]
    pub fn from_mebibytes(count: u32) -> Self {
        Self { text: format!("{count}Mi"), nanos: i128::from(count) * (1 << 20) * NANO }
    }
}

/// `nanos / step`, rounded up, as upstream rounds; saturates, though the parser keeps amounts well inside.
fn whole(nanos: i128, step: i128) -> u64 {
    u64::try_from((nanos + step - 1) / step).unwrap_or(u64::MAX)
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.len() > MAX_LEN {
            return Err(QuantityError::TooLarge);
        }
        if text.starts_with('-') {
            return Err(QuantityError::Negative);
        }
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (digits, decimals) = digits(number)?;
        let (base, exponent) = scale(suffix)?;
        let nanos = amount(digits, decimals, base, exponent)?;
        if nanos > i128::from(i64::MAX) * NANO {
            return Err(QuantityError::TooLarge);
        }
        Ok(Self { text: text.to_owned(), nanos })
    }
}

/// `1.50` as 150 and two decimals.
fn digits(number: &str) -> Result<(i128, i32), QuantityError> {
    let (int, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (int.is_empty() && fraction.is_empty()) {
        return Err(QuantityError::Number);
    }
    let joined = format!("{int}{fraction}");
    let value = joined.parse().map_err(|_| QuantityError::TooLarge)?;
    let decimals = i32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
    Ok((value, decimals))
}

/// A suffix as base and exponent: `Mi` is 2^20, `m` is 10^-3, `e3` is 10^3.
fn scale(suffix: &str) -> Result<(i128, i32), QuantityError> {
    let fixed = match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (2, 10),
        "Mi" => (2, 20),
        "Gi" => (2, 30),
        "Ti" => (2, 40),
        "Pi" => (2, 50),
        "Ei" => (2, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            return Ok((10, exponent));
        }
    };
    Ok(fixed)
}

/// `digits * 10^-decimals * base^exponent` in billionths, rounded up.
fn amount(digits: i128, decimals: i32, base: i128, exponent: i32) -> Result<i128, QuantityError> {
    if digits == 0 {
        return Ok(0);
    }
    let power = |base: i128, exponent: i32| {
        u32::try_from(exponent)
            .ok()
            .and_then(|e| base.checked_pow(e))
            .ok_or(QuantityError::TooLarge)
    };
    // Everything decimal is one power of ten, so that `1.5` and `1500m` take the same path and stay exact.
    let (binary, ten) = if base == 2 { (power(2, exponent)?, 0) } else { (1, exponent) };
    let ten = ten.saturating_sub(decimals).saturating_add(9);
    let scaled = digits.checked_mul(binary).ok_or(QuantityError::TooLarge)?;
    if ten >= 0 {
        return scaled.checked_mul(power(10, ten)?).ok_or(QuantityError::TooLarge);
    }
    // A divisor beyond i128 leaves less than one billionth, which rounds up to one.
    let Ok(divisor) = power(10, -ten) else { return Ok(1) };
    Ok(scaled / divisor + i128::from(scaled % divisor != 0))
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `cpu: 1` and `cpu: 0.5` are numbers to YAML; the loader hands their text on, so only strings arrive here.
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "quantity" })
    }
}
