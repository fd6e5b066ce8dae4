//! What of our files is damaged, or from before they had checksums.

use super::*;

#[test]
fn a_damaged_list_is_begun_anew() {
    let world = world();
    world.store.record(&world.task(1)).unwrap();
    fs::write(world.own(COMPLETED), "{").unwrap();
    fs::write(world.own("mirror.json"), "[").unwrap();
    world.store.record(&world.task(2)).unwrap();
    assert!(read(world.mirror(COMPLETED)).contains("task_002"));
}

#[test]
fn a_flipped_bit_in_any_file_of_ours_is_named_and_its_text_is_never_served() {
    for name in [
        OVERVIEW,
        STATE,
        COMPLETED,
        "agent_outputs/task_001_output.md",
    ] {
        let world = world();
        world.store.record(&world.task(1)).unwrap();
        fs::remove_dir_all(world.mirror("")).unwrap();
        let whole = fs::read(world.own(name)).unwrap();
        for at in [0, 30, whole.len() / 2, whole.len() - 1] {
            fs::write(world.own(name), &whole).unwrap();
            flip(&world.own(name), at);
            let error = world.store.get(&world.spec().project.unwrap().id);
            let error = format!("{:#}", anyhow::Error::from(error.unwrap_err()));
            let file = name.rsplit('/').next().unwrap();
            assert!(error.contains(&format!("`{file}` is damaged")), "{error}");
            assert_eq!(world.given(name), None);
            let checked = check(&world.dir.path().join("head/context")).unwrap();
            assert_eq!(checked.damaged, [world.own(name)]);
        }
    }
}

#[test]
fn a_damaged_file_is_set_aside_when_its_place_is_needed_and_tasks_go_on() {
    let world = world();
    world.store.record(&world.task(1)).unwrap();
    fs::remove_dir_all(world.mirror("")).unwrap();
    for name in [OVERVIEW, STATE, COMPLETED, "mirror.json"] {
        flip(&world.own(name), 120);
    }
    // A head that was started again: the list is not in its memory.
    opened(world.dir.path()).record(&world.task(2)).unwrap();
    for name in [OVERVIEW, STATE, COMPLETED, "mirror.json"] {
        read_own(world.own(name));
        assert!(world.own(&format!("{name}.damaged")).exists(), "{name}");
    }
    assert!(read_own(world.own(STATE)).contains("task_002"));
    let checked = check(&world.dir.path().join("head/context")).unwrap();
    assert_eq!((checked.damaged.len(), checked.aside.len()), (0, 4));
}

#[test]
fn a_damaged_document_comes_back_from_a_mirror_that_has_the_same_text() {
    let world = world();
    world.store.record(&world.task(1)).unwrap();
    fs::write(world.mirror(OVERVIEW), "This is about owls.\n").unwrap();
    assert_eq!(world.given(OVERVIEW).unwrap(), "This is about owls.\n");
    flip(&world.own(OVERVIEW), 100);
    assert_eq!(world.given(OVERVIEW).unwrap(), "This is about owls.\n");
    assert_eq!(read_own(world.own(OVERVIEW)), "This is about owls.\n");
}

#[test]
fn files_from_before_there_were_checksums_get_theirs_also_after_a_crash_in_between() {
    let world = world();
    fs::create_dir_all(world.own(OUTPUTS)).unwrap();
    let output = "agent_outputs/task_001_output.md";
    for (name, text) in [
        (OVERVIEW, "Owls.\n"),
        (COMPLETED, "[]\n"),
        (output, "Done.\n"),
    ] {
        fs::write(world.own(name), text).unwrap();
    }
    // As far as an earlier opening had come.
    fs::write(world.own(STATE), sum::with_sum(b"All is well.\n")).unwrap();
    let root = world.dir.path().join("head/context");
    assert_eq!(check(&root).unwrap(), Checked::default());
    assert_eq!(world.given(OVERVIEW).unwrap(), "Owls.\n");
    assert_eq!(world.given(STATE).unwrap(), "All is well.\n");
    assert_eq!(read_own(world.own(output)), "Done.\n");
    assert_eq!(check(&root).unwrap().files, 5);
}
