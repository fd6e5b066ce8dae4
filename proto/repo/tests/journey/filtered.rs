//! Files that the user's git filters: what the refusal advises gives no filter what an agent wrote.

use std::{fs, process::Command};

use crate::common::{World, apply, git};

#[test]
fn the_advice_of_a_refusal_leaves_out_all_that_is_filtered() {
    let user = World::with(&[("a.txt", "one\n")]);
    let saw = user.tmp.path().join("saw");
    let smudge = format!("tee -a {} | tr A-Z a-z", saw.display());
    let set = |key: &str, value: &str| git(&user.user(), &["config", key, value]);
    set("filter.upper.clean", "tr a-z A-Z");
    set("filter.upper.smudge", &smudge);
    user.write(".gitattributes", "*.up filter=upper\n");
    for name in ["word.up", "[w]ord.up", "a b.up"] {
        user.write(name, "hello\n");
    }
    user.commit("filtered");
    let task = user.start();
    for name in ["word.up", "[w]ord.up", "a b.up", "new.up"] {
        task.write(name, "AGENT\n");
    }
    task.write("a.txt", "one\ntwo\n");
    let collected = task.collect();
    let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused
            .contains("because of `[w]ord.up`: git filters it, and `a b.up`, `word.up`, the agent"),
        "{refused}"
    );
    let (_, advice) = refused
        .split_once("`ctl diff task_001 | git apply")
        .unwrap();
    let (exclude, _) = advice.split_once('`').unwrap();
    let _ = fs::remove_file(&saw);
    let command = format!("git apply{exclude} '{}'", collected.patch.display());
    let done = Command::new("sh")
        .args(["-c", &command])
        .current_dir(user.user())
        .status();
    assert!(done.unwrap().success(), "{command}");
    let read = |name: &str| fs::read_to_string(user.user().join(name)).unwrap();
    assert_eq!(read("a.txt"), "one\ntwo\n");
    assert_eq!(read("word.up"), "hello\n");
    assert!(!user.user().join("new.up").exists());
    assert!(
        !saw.exists(),
        "the filter was given {}",
        fs::read_to_string(&saw).unwrap()
    );
}
