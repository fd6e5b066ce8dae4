//! Files that a checkout has in another encoding: what cannot be in it is refused, and the rest is exact.

use std::fs;

use orchestra_repo::ApplyError;

use crate::common::{World, apply, git};

/// A repository whose checkout has `text.l1` in Latin-1 and `text.u` in UTF-16 with CRLF.
fn world() -> World {
    let user = World::with(&[("a.txt", "a\n")]);
    let rules = "*.l1 text working-tree-encoding=ISO-8859-1\n\
                 *.u text eol=crlf working-tree-encoding=UTF-16LE-BOM\n";
    user.write(".gitattributes", rules);
    fs::write(user.user().join("text.l1"), b"caf\xe9\n").unwrap();
    fs::write(user.user().join("text.u"), utf16("one\r\n")).unwrap();
    user.commit("in other encodings");
    user
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

#[test]
fn what_an_agent_writes_is_in_the_encoding_of_the_checkout() {
    let user = world();
    let task = user.start();
    task.write("text.l1", "caf\u{e9}\nna\u{ef}ve\n");
    // Also with line ends of its own.
    task.write("text.u", "one\r\ntwo\n");
    task.write("new.l1", "\u{fc}\n");
    let collected = task.collect();
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let read = |name: &str| fs::read(user.user().join(name)).unwrap();
    assert_eq!(read("text.l1"), b"caf\xe9\nna\xefve\n");
    assert_eq!(read("text.u"), utf16("one\r\ntwo\r\n"));
    assert_eq!(read("new.l1"), b"\xfc\n");
}

#[test]
fn what_the_encoding_has_no_letters_for_is_refused() {
    for (name, text, encoding) in [
        ("text.l1", "caf\u{e9}\ndash \u{2014}\n".into(), "ISO-8859-1"),
        ("new.l1", "\u{2014}\n".into(), "ISO-8859-1"),
        // What should be UTF-8 to git, and is in the encoding already.
        ("text.u", utf16("two\r\n"), "UTF-16LE-BOM"),
    ] {
        let user = world();
        let task = user.start();
        fs::write(task.dir().join(name), text).unwrap();
        task.write("a.txt", "other\n");
        let collected = task.collect();
        let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
        assert!(matches!(&refused, ApplyError::Unsafe { path, .. } if *path == name));
        let why = refused.to_string();
        assert!(why.contains(&format!("in {encoding}")), "{why}");
        assert!(why.contains(&format!("--exclude={name}`")), "{why}");
        assert_eq!(git(&user.user(), &["status", "--short"]), "", "{why}");
    }
}

#[test]
fn the_attributes_of_the_change_count() {
    let user = world();
    let task = user.start();
    // The project goes over to UTF-8, and another file gets an encoding.
    task.write(
        ".gitattributes",
        "*.x text working-tree-encoding=ISO-8859-1\n",
    );
    task.write("text.l1", "dash \u{2014}\n");
    task.write("new.x", "\u{e9}\n");
    let collected = task.collect();
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let read = |name: &str| fs::read(user.user().join(name)).unwrap();
    assert_eq!(read("text.l1"), "dash \u{2014}\n".as_bytes());
    assert_eq!(read("new.x"), b"\xe9\n");
    git(&user.user(), &["add", "-A"]);
    assert_eq!(git(&user.user(), &["show", ":new.x"]), "\u{e9}");

    let user = world();
    let task = user.start();
    task.write(
        ".gitattributes",
        "*.x text working-tree-encoding=ISO-8859-1\n",
    );
    task.write("new.x", "\u{2014}\n");
    let collected = task.collect();
    let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    assert!(
        refused.to_string().contains("because of `new.x`"),
        "{refused}"
    );
}
