use orchestra_types::Digest;
use sha2::{Digest as _, Sha256};

use super::{Blobs, Error};

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

#[test]
fn bytes_with_another_hash_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let announced = digest(b"announced");
    let mut writer = blobs.writer(announced, 9).unwrap();
    writer.write(b"different").unwrap();
    let refused = writer.finish().unwrap_err();
    assert!(matches!(refused, Error::WrongHash { .. }), "{refused}");
    assert!(!blobs.has(&announced));
    let left = std::fs::read_dir(dir.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "temporary files");
}

#[test]
fn more_or_fewer_bytes_than_announced_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let mut writer = blobs.writer(digest(b"abc"), 3).unwrap();
    assert!(matches!(
        writer.write(b"abcd"),
        Err(Error::WrongSize { found: 4, .. })
    ));
    let mut writer = blobs.writer(digest(b"abc"), 3).unwrap();
    writer.write(b"ab").unwrap();
    assert!(matches!(
        writer.finish(),
        Err(Error::WrongSize { found: 2, .. })
    ));
}

#[test]
fn an_upload_that_was_cut_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let name = digest(b"abcdef");
    let mut writer = blobs.writer(name, 6).unwrap();
    writer.write(b"abc").unwrap();
    writer.finish().unwrap_err();
    assert_eq!(blobs.partial(&name), 3);
    assert!(!blobs.has(&name));
    let mut writer = blobs.resume(name, 6, 3).unwrap();
    assert_eq!(blobs.partial(&name), 0, "it is somebody's now");
    writer.write(b"def").unwrap();
    writer.finish().unwrap();
    assert_eq!(blobs.read(&name, 6).unwrap(), b"abcdef");
}

#[test]
fn an_upload_does_not_go_on_from_another_place_or_from_wrong_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let name = digest(b"abcdef");
    let cut = |bytes: &[u8]| {
        let mut writer = blobs.resume(name, 6, 0).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap_err();
    };
    cut(b"abc");
    let refused = blobs.resume(name, 6, 2).unwrap_err();
    assert!(matches!(refused, Error::NoPartial { offset: 2, .. }));
    cut(b"xyz");
    let mut writer = blobs.resume(name, 6, 3).unwrap();
    writer.write(b"def").unwrap();
    let refused = writer.finish().unwrap_err();
    assert!(matches!(refused, Error::WrongHash { .. }), "{refused}");
    assert_eq!(blobs.partial(&name), 0, "wrong bytes are not kept");
}

#[test]
fn what_was_cut_is_kept_in_bounds_and_leaves_nothing_when_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    for number in 0..200_u8 {
        let mut writer = blobs.writer(digest(&[number]), 2).unwrap();
        writer.write(b"x").unwrap();
        writer.finish().unwrap_err();
    }
    let left = std::fs::read_dir(dir.path().join("tmp")).unwrap().count();
    assert_eq!(left, 64);
    assert_eq!(blobs.partial(&digest(&[199])), 1, "the newest are kept");
    assert_eq!(blobs.partial(&digest(&[0])), 0);
}

#[test]
fn a_download_resumes_at_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let stored = blobs.put(&bytes).unwrap();
    let mut reader = blobs.reader(&stored, 150_000).unwrap();
    assert_eq!(reader.total(), 200_000);
    let mut rest = Vec::new();
    loop {
        let chunk = reader.next_chunk().unwrap();
        if chunk.is_empty() {
            break;
        }
        rest.extend(chunk);
    }
    assert_eq!(rest, bytes[150_000..]);
}

#[test]
fn a_flipped_bit_is_named_and_the_last_bytes_are_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let bytes = vec![7; 200_000];
    let stored = blobs.put(&bytes).unwrap();
    let mut flipped = bytes.clone();
    flipped[3] ^= 1;
    std::fs::write(blobs.path(&stored), flipped).unwrap();
    let whole = blobs.read(&stored, 200_000).unwrap_err();
    assert!(matches!(whole, Error::Damaged { .. }), "{whole}");
    let text = blobs.read_text(&stored, 10).unwrap_err();
    assert!(matches!(text, Error::Damaged { .. }), "{text}");
    for offset in [0, 150_000] {
        let mut reader = blobs.reader(&stored, offset).unwrap();
        let mut given = 0;
        let error = loop {
            match reader.next_chunk() {
                Ok(chunk) => given += chunk.len() as u64,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(offset + given < 200_000);
    }
}

#[test]
fn what_a_killed_process_left_half_written_is_removed_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let stored = blobs.put(b"kept").unwrap();
    std::fs::write(dir.path().join("tmp/0"), b"half").unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    assert!(!dir.path().join("tmp/0").exists());
    assert_eq!(blobs.read(&stored, 10).unwrap(), b"kept");
    let unknown = blobs.read(&digest(b"never"), 10).unwrap_err();
    assert!(matches!(unknown, Error::Unknown(_)), "{unknown}");
}

#[test]
fn large_bytes_in_odd_pieces_are_those_that_were_sent() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let bytes: Vec<u8> = (0..20 << 20).map(|at: u32| (at / 4099) as u8).collect();
    let digest = digest(&bytes);
    let mut writer = blobs.writer(digest, bytes.len() as u64).unwrap();
    for piece in bytes.chunks(65_521) {
        writer.write(piece).unwrap();
    }
    writer.finish().unwrap();
    assert!(blobs.read(&digest, u64::MAX).unwrap() == bytes);
}
