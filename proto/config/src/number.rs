//! Whole numbers within bounds. Whatever stands in their place, the refusal names the bounds.

use std::{fmt, ops::RangeInclusive};

use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// A whole number of the range; none where there is no value.
pub(crate) fn whole<'de, D: Deserializer<'de>>(
    d: D,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, D::Error> {
    let (min, max) = (range.start(), range.end());
    match d.deserialize_any(Whatever)? {
        Written::Nothing => Ok(None),
        Written::Number(number) if range.contains(&number) => Ok(Some(number)),
        Written::Number(_) | Written::Beyond => {
            Err(D::Error::custom(format!("must be {min} to {max}")))
        }
        Written::Word(_) | Written::Other => Err(D::Error::custom(format!(
            "a whole number, {min} to {max}, is expected here"
        ))),
    }
}

/// A whole number of the range, or this word, which is none of them.
pub(crate) fn whole_or_word<'de, D: Deserializer<'de>>(
    d: D,
    range: RangeInclusive<u64>,
    word: &str,
) -> Result<Option<Option<u64>>, D::Error> {
    let (min, max) = (range.start(), range.end());
    match d.deserialize_any(Whatever)? {
        Written::Nothing => Ok(None),
        Written::Number(number) if range.contains(&number) => Ok(Some(Some(number))),
        Written::Word(written) if written == word => Ok(Some(None)),
        Written::Number(_) | Written::Beyond | Written::Word(_) | Written::Other => Err(
            D::Error::custom(format!("must be `{word}`, or {min} to {max}")),
        ),
    }
}

/// Like [`whole`], of a type that holds all of the range.
pub(crate) fn narrow<'de, D: Deserializer<'de>>(
    d: D,
    range: RangeInclusive<u32>,
) -> Result<Option<u32>, D::Error> {
    let wide = u64::from(*range.start())..=u64::from(*range.end());
    let number = whole(d, wide)?;
    let narrow = number.map(u32::try_from).transpose();
    narrow.map_err(|_| D::Error::custom("the number is too large"))
}

/// What stands there.
enum Written {
    Nothing,
    Number(u64),
    /// A whole number below zero, or far too large.
    Beyond,
    Word(String),
    Other,
}

/// Takes everything. IMPORTANT: it refuses nothing, for a refusal of a visitor has the place of the key.
struct Whatever;

fn number<E>(number: impl TryInto<u64>) -> Result<Written, E> {
    Ok(number.try_into().map_or(Written::Beyond, Written::Number))
}

impl<'de> Visitor<'de> for Whatever {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_unit<E: Error>(self) -> Result<Written, E> {
        Ok(Written::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Written, E> {
        Ok(Written::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Written, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Written, E> {
        Ok(Written::Other)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Written, E> {
        number(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Written, E> {
        number(value)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Written, E> {
        number(value)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Written, E> {
        number(value)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Written, E> {
        Ok(Written::Other)
    }

    /// In quotes it is a number all the same.
    fn visit_str<E: Error>(self, text: &str) -> Result<Written, E> {
        let number = text.parse().map(Written::Number);
        Ok(number.unwrap_or_else(|_| Written::Word(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Written, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Written::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Written::Other)
    }
}
