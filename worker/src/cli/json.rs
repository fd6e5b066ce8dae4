//! Short ways into JSON that somebody else wrote: every field may be missing or of another type.

use std::borrow::Cow;

use serde_json::Value;

/// The object in a line, if it is one. Bytes that are not UTF-8 are replaced.
pub(super) fn object(line: &[u8]) -> Option<Value> {
    let text = lossy(line);
    let value: Value = serde_json::from_str(text.trim()).ok()?;
    value.is_object().then_some(value)
}

/// A line as text, with what is not UTF-8 replaced and the line end cut off.
pub(super) fn lossy(line: &[u8]) -> Cow<'_, str> {
    let end = line
        .iter()
        .rposition(|b| !matches!(b, b'\n' | b'\r'))
        .map_or(0, |last| last + 1);
    String::from_utf8_lossy(&line[..end])
}

/// The text at `pointer` (`/a/b`), or an empty one.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The number at `pointer`, or 0.
pub(super) fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

/// The entries at `pointer`, or none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// What stands at `pointer`, or `null`.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A text as it is, anything else as JSON; `null` is empty.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Dollars as millionths, if there is such a number.
pub(super) fn microusd(value: &Value, pointer: &str) -> Option<u64> {
    let dollars = value.pointer(pointer)?.as_f64()?;
    if !(0.0..1e12).contains(&dollars) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and small just above"
    )]
    Some((dollars * 1e6).round() as u64)
}

/// One message as a line to write.
pub(super) fn line(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}
