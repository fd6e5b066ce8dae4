//! The scripts that come with the program.

use super::{Script, parse};

/// Their names.
pub const BUILTIN_NAMES: [&str; 3] = ["demo", "echo", "hello"];

/// The built-in script of that name.
#[must_use]
pub fn builtin(name: &str) -> Option<Script> {
    let text = match name {
        "demo" => include_str!("builtin/demo.yaml"),
        "echo" => include_str!("builtin/echo.yaml"),
        "hello" => include_str!("builtin/hello.yaml"),
        _ => return None,
    };
    Some(parse(text).expect("a test parses every built-in script"))
}
