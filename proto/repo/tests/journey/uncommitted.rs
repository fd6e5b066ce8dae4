//! Large files that are not committed, on their way to the head time and again.

use std::{fs, path::Path};

use crate::common::{World, git};
use orchestra_repo::Cache;

/// A file that takes many bytes, whatever packs it.
fn noise(seed: u64, words: u64) -> String {
    let word = |n: u64| {
        (n ^ seed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    (0..words)
        .map(|n| format!("{:016x}", word(word(n))))
        .collect()
}

#[test]
fn a_large_file_that_is_not_committed_is_sent_once() {
    let user = World::with(&[("a.txt", "one\n")]);
    let base = user.tmp.path().join("base");
    user.checkout()
        .snapshot()
        .unwrap()
        .bundle(&[], &base)
        .unwrap();
    user.write("data/large.txt", &noise(1, 20_000));
    let first = user.checkout().snapshot().unwrap();
    let (head, sent) = ([first.head.clone()], first.large_files().unwrap());
    assert_eq!(sent.len(), 1);
    let (one, two) = (user.tmp.path().join("one"), user.tmp.path().join("two"));
    first.bundle(&head, &one).unwrap();

    // It lies elsewhere, and something small is new.
    fs::create_dir(user.user().join("moved")).unwrap();
    fs::rename(
        user.user().join("data/large.txt"),
        user.user().join("moved/it.txt"),
    )
    .unwrap();
    user.write("a.txt", "two\n");
    let second = user.checkout().snapshot().unwrap();
    let known = second.would_send(&head, &sent).unwrap();
    assert_eq!(known, sent);
    second.bundle_without(&head, &known, &two).unwrap();
    let size = |path: &Path| path.metadata().unwrap().len();
    assert!(
        size(&two) * 50 < size(&one),
        "{} of {}",
        size(&two),
        size(&one)
    );

    let cache = Cache::open(&user.tmp.path().join("cache"), &second.commit).unwrap();
    let without = [base.clone(), two.clone()];
    let missing = cache.fetch_bundles(&without, &second.commit);
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("all necessary objects"), "{missing}");
    let cache = Cache::open(&user.tmp.path().join("other"), &second.commit).unwrap();
    cache
        .fetch_bundles(&[base, one, two], &second.commit)
        .unwrap();
    let shown = format!("{}:moved/it.txt", second.commit);
    let large = git(cache.path(), &["show", &shown]);
    assert_eq!(large.len(), 16 * 20_000);

    // Nothing of it is in what is sent any more, also where the object is here yet.
    fs::remove_file(user.user().join("moved/it.txt")).unwrap();
    let third = user.checkout().snapshot().unwrap();
    assert_eq!(third.would_send(&head, &sent).unwrap(), [""; 0]);
    assert_eq!(third.large_files().unwrap(), [""; 0]);
}
