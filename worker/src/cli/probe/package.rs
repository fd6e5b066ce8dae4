//! The version of a CLI that npm installed, from its package. Starting such a CLI only to ask costs seconds
//! and some 100 MB each.

use std::{ffi::OsStr, fs, io::Read, path::Path};

use orchestra_types::{limits, runner::Readiness};
use serde_json::Value;

use super::program::find;

/// How far above the program its package may lie.
const LEVELS_MAX: usize = 4;
/// Largest `package.json` that is read.
const PACKAGE_BYTES_MAX: u64 = 1024 * 1024;
/// How much of a script is read to find its interpreter.
const SHEBANG_BYTES_MAX: u64 = 256;

/// The version and whether the program can run; none when no package says that this program is its own.
pub(super) fn version(program: &Path, path: &OsStr) -> Option<(String, Readiness)> {
    let name = program.file_name()?.to_str()?;
    let real = program.canonicalize().ok()?;
    let version = real
        .ancestors()
        .skip(1)
        .take(LEVELS_MAX)
        .find_map(|dir| version_of(&dir.join("package.json"), name))?;
    let readiness = match interpreter(&real) {
        Some(needed) if find(&needed, path).is_none() => Readiness::NotReady {
            reason: format!("it needs `{needed}`, which is not on the worker's PATH"),
        },
        _ => Readiness::Ready,
    };
    Some((version, readiness))
}

/// The version in a package that has a program of this name.
fn version_of(package: &Path, program: &str) -> Option<String> {
    let package: Value = serde_json::from_str(&start_of(package, PACKAGE_BYTES_MAX)?).ok()?;
    let has_program = match &package["bin"] {
        Value::Object(programs) => programs.contains_key(program),
        Value::String(_) => package["name"].as_str()?.rsplit('/').next() == Some(program),
        _ => false,
    };
    let version = package["version"].as_str().filter(|_| has_program)?;
    Some(limits::cut(version, limits::NAME_BYTES_MAX))
}

/// What `#!/usr/bin/env NAME` needs.
fn interpreter(program: &Path) -> Option<String> {
    let start = start_of(program, SHEBANG_BYTES_MAX)?;
    let words = start.lines().next()?.strip_prefix("#!/usr/bin/env ")?;
    let name = words
        .split_whitespace()
        .find(|word| !word.starts_with('-'))?;
    Some(name.to_owned())
}

fn start_of(file: &Path, bytes: u64) -> Option<String> {
    let mut start = Vec::new();
    let file = fs::File::open(file).ok()?;
    file.take(bytes).read_to_end(&mut start).ok()?;
    Some(String::from_utf8_lossy(&start).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn an_npm_package_tells_the_version_of_its_own_programs_only() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("lib/gemini-cli/bundle");
        fs::create_dir_all(&bundle).unwrap();
        let package = r#"{"name":"@google/gemini-cli","version":"0.61.0","bin":{"gemini":"bundle/gemini.js"}}"#;
        fs::write(dir.path().join("lib/gemini-cli/package.json"), package).unwrap();
        let script = bundle.join("gemini.js");
        fs::write(&script, "#!/usr/bin/env -S node --no-warnings\n").unwrap();
        let (gemini, other) = (dir.path().join("gemini"), dir.path().join("other"));
        symlink(&script, &gemini).unwrap();
        symlink(&script, &other).unwrap();

        let (told, readiness) = version(&gemini, dir.path().as_os_str()).unwrap();
        assert_eq!(told, "0.61.0");
        let Readiness::NotReady { reason } = readiness else {
            panic!("node is not there: {readiness:?}");
        };
        assert!(reason.contains("`node`"), "{reason}");
        assert_eq!(version(&other, dir.path().as_os_str()), None);

        let node = dir.path().join("node");
        fs::write(&node, "").unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o755)).unwrap();
        let (_, readiness) = version(&gemini, dir.path().as_os_str()).unwrap();
        assert_eq!(readiness, Readiness::Ready);
    }
}
