//! Names that programs trip over.

use fastrand::Rng;

/// Names that every form of a result must carry as they are.
const ODD: &[&[u8]] = &[
    b"a",
    b"b.txt",
    b"B.TXT",
    b"readme",
    b"README",
    b"ReadMe",
    b" lead",
    b"trail ",
    b" ",
    b"new\nline",
    b"\n",
    b"cr\r",
    b"tab\there",
    b"quo\"te",
    b"'single'",
    b"back\\slash",
    b"\\",
    b"-dash",
    b"--force",
    b"-",
    b":(glob)x",
    b":(top)",
    b":!x",
    b"*?[",
    b"[a]",
    b"\xff\xfe",
    b"\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    "é".as_bytes(),
    "e\u{301}".as_bytes(),
    "\u{202e}rtl".as_bytes(),
    "zero\u{200b}width".as_bytes(),
    "\u{1f600}".as_bytes(),
    b"\x01\x02",
    b"\x1b[31m",
    b"\x7f",
    b"CON",
    b"nul.txt",
    b"aux.",
    b"name.",
    b"git~2",
    b".gitkeep",
    b".github",
    b".git-x",
    b".gitx",
    b"git",
    b"...",
    b".x",
    b"#x",
    b"!y",
    b"~",
    b"$HOME",
    b"a => b",
    b"{a => b}",
    b"a/b",
    b"dev/null",
    b"i/a",
    b"w/b",
    b"core",
    b"HEAD",
    b"index.lock",
    b"b b/b",
    b"x a/x b/x",
];

/// Directories.
const DIRS: &[&[u8]] = &[
    b"",
    b"",
    b"",
    b"d/",
    b"d/e/",
    b"D/",
    b"d/e/f/g/",
    b"odd\n dir/",
    b"\xfe dir/",
    b"-d/",
    b" /",
    b"a/",
    b"b/",
    b"README/",
    b"\"/",
    b"d /",
    b".hidden/",
    b"\xc3\xa9/",
];

/// Names that some file system takes for `.git`: they are left out, with a warning.
const REFUSED: &[&[u8]] = &[
    b".git.",
    b".git ",
    b".GIT",
    b".Git/config",
    b"git~1",
    b"GIT~1/hooks/post-checkout",
    b".git::$INDEX_ALLOCATION/x",
    b"d/.git. ",
    b"d/git~1/x",
    b".g\xe2\x80\x8cit",
];

/// A path.
pub fn path(rng: &mut Rng) -> Vec<u8> {
    let dir = match rng.u32(0..20) {
        0 => deep(rng),
        1 => [&[b'd'; 255][..], b"/"].concat(),
        _ => one(rng, DIRS).to_vec(),
    };
    let name = match rng.u32(0..20) {
        0 => vec![b'n'; 255],
        1..=3 => rng.u32(0..30).to_string().into_bytes(),
        _ => one(rng, ODD).to_vec(),
    };
    [dir, name].concat()
}

/// A path that must be left out.
pub fn refused(rng: &mut Rng) -> Vec<u8> {
    one(rng, REFUSED).to_vec()
}

fn one<'a>(rng: &mut Rng, from: &[&'a [u8]]) -> &'a [u8] {
    from[rng.usize(..from.len())]
}

/// As deep as fits into the longest path of the system.
fn deep(rng: &mut Rng) -> Vec<u8> {
    let depth = rng.usize(1..300);
    let part: &[u8] = if rng.bool() { b"deep/" } else { b"p\n\"/" };
    part.repeat(depth)
}
