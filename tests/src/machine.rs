//! What this machine can do, so that a test that it cannot run is skipped by name.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{binaries::workspace, isolation};

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A network namespace with nothing but loopback around the whole test run.
    Isolation,
    /// The right to make network namespaces of one's own.
    Root,
    /// A real CLI or tool that `tests/setup.sh` installs.
    Tool(&'static str),
    /// A program of the machine.
    Program(&'static str),
    /// The right to mount a file system that lies in a file.
    LoopDevice,
    /// A controller of cgroups, of either version.
    Controller(&'static str),
}

impl Need {
    /// Why this machine does not have it; none when it does.
    #[must_use]
    pub fn lacking(self) -> Option<String> {
        match self {
            Self::Isolation if isolation::is_active() => None,
            Self::Isolation => {
                Some("cannot make a network namespace here (want root, or user namespaces)".into())
            }
            Self::Root if rustix::process::getuid().is_root() => None,
            Self::Root => Some("needs root".into()),
            Self::Tool(name) if tool(name).is_some() => None,
            Self::Tool(name) => Some(format!("{name} is not installed: run tests/setup.sh")),
            Self::Program(name) if on_path(name).is_some() => None,
            Self::Program(name) => Some(format!("{name} is not on PATH")),
            Self::LoopDevice if Path::new("/dev/loop-control").exists() => None,
            Self::Controller(name) if has_controller(name) => None,
            Self::Controller(name) => Some(format!(
                "the kernel gives no cgroup controller `{name}` here"
            )),
            Self::LoopDevice => Some("there are no loop devices (/dev/loop-control)".into()),
        }
    }
}

/// Whether there is one, and this user may make cgroups below it.
fn has_controller(name: &str) -> bool {
    let root = Path::new("/sys/fs/cgroup");
    let second = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let second = second.split_whitespace().any(|c| c == name);
    let place = match second {
        true => root.to_owned(),
        false => root.join(name),
    };
    let probe = place.join(format!("orchestra-need-{}-{name}", std::process::id()));
    place.join("cgroup.procs").exists()
        && std::fs::create_dir(&probe).is_ok()
        && std::fs::remove_dir(&probe).is_ok()
}

/// The directory of the tools that `tests/setup.sh` installs.
pub(crate) fn tools() -> &'static Path {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let said = Command::new(workspace().join("tests/setup.sh"))
            .arg("where")
            .output();
        let said = said.map(|output| output.stdout).unwrap_or_default();
        PathBuf::from(String::from_utf8_lossy(&said).trim()).join("bin")
    })
}

/// The path of an installed tool.
#[must_use]
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = tools().join(name);
    if path.exists() {
        Some(path)
    } else {
        on_path(name)
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
