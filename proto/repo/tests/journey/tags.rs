//! Tags of an agent: what only they hold is kept, and that they are not made is told.

use crate::{
    common::{BRANCH, git},
    others::{import, names, show, warning, world},
};

#[test]
fn what_only_a_tag_holds_is_kept_as_a_branch() {
    for (annotated, packed) in [(false, false), (true, false), (true, true)] {
        let user = world();
        let task = user.start();
        task.write("work.txt", "work\n");
        git(task.dir(), &["add", "-A"]);
        git(task.dir(), &["commit", "-qm", "work"]);
        match annotated {
            true => git(task.dir(), &["tag", "-a", "-m", "before", "backup"]),
            false => git(task.dir(), &["tag", "backup"]),
        };
        git(task.dir(), &["reset", "-q", "--hard", "HEAD~1"]);
        if packed {
            git(task.dir(), &["pack-refs", "--all"]);
        }
        task.write("other.txt", "other\n");
        let collected = task.collect();
        let branch = format!("{BRANCH}-1-backup");
        assert_eq!(names(&collected), [branch.as_str()]);
        let [told, kept] = collected.manifest.warnings.as_slice() else {
            panic!("{:#?}", collected.manifest.warnings);
        };
        assert!(
            told.ends_with("not made in your repository: `backup`"),
            "{told}"
        );
        assert!(
            kept.contains("below the agent's tag `backup`") && kept.contains(&branch),
            "{kept}"
        );
        import(&user, &collected);
        assert_eq!(show(&user, &format!("{branch}:work.txt")), "work");
    }
}

#[test]
fn a_tag_of_the_result_is_told_and_one_of_what_was_given_is_not() {
    let user = world();
    let task = user.start();
    git(task.dir(), &["tag", "given"]);
    task.write("work.txt", "work\n");
    git(task.dir(), &["add", "-A"]);
    git(task.dir(), &["commit", "-qm", "work"]);
    git(task.dir(), &["tag", "-a", "-m", "one", "v1.0"]);
    let collected = task.collect();
    assert_eq!(names(&collected), [""; 0]);
    assert!(warning(&collected).ends_with("not made in your repository: `v1.0`"));
}
