//! How a hostile program is started, and the files by which it is told and tells.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    PROGRAM,
    kind::{Ending, Kind},
};

/// Ignores what can be ignored, and becomes the program.
const DEAF: &str = "trap '' INT TERM HUP QUIT; exec \"$0\" \"$@\"";

/// What all processes of one tree know.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Stands in each command line of it, and in no other.
    pub token: String,
    /// Where its files are.
    pub dir: PathBuf,
    /// When all of it ends by itself, in seconds since 1970: nothing stays on the machine for ever.
    pub deadline: u64,
}

impl Tree {
    /// Reads what [`Tree::words`] wrote.
    pub fn parse(words: &[String]) -> Option<Self> {
        let [token, dir, deadline] = words else {
            return None;
        };
        Some(Self {
            token: token.clone(),
            dir: dir.into(),
            deadline: deadline.parse().ok()?,
        })
    }

    fn words(&self) -> [String; 3] {
        [
            self.token.clone(),
            self.dir.to_string_lossy().into_owned(),
            self.deadline.to_string(),
        ]
    }

    /// The command line of the first process.
    pub fn command_line(&self, program: &Path, kind: Kind, ending: Ending) -> Vec<String> {
        let program = program.to_string_lossy().into_owned();
        let mut line = match ending {
            Ending::Ends | Ending::Cancelled => vec![],
            Ending::Deaf => ["sh", "-c", DEAF].map(str::to_owned).to_vec(),
        };
        line.push(program);
        line.extend([PROGRAM, "main", kind.name(), ending.name()].map(str::to_owned));
        line.extend(self.words());
        line
    }

    /// A process of this tree in another role, not started yet.
    pub fn role(&self, role: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args([PROGRAM, role]).args(self.words());
        command.stdin(Stdio::null());
        command
    }

    /// The same, deaf to signals.
    pub fn deaf_role(&self, role: &str) -> std::io::Result<Child> {
        let mut command = Command::new("sh");
        let exe = std::env::current_exe()?;
        command.args(["-c", DEAF]).arg(exe).args([PROGRAM, role]);
        command.args(self.words()).stdin(Stdio::null()).spawn()
    }

    /// The file with the number of the first process, once the tree is up.
    pub fn main_file(&self) -> PathBuf {
        self.file("main")
    }

    /// The file that is there when what shall outlive the first process runs.
    pub fn up_file(&self) -> PathBuf {
        self.file("up")
    }

    /// The file on which the first process ends.
    pub fn go_file(&self) -> PathBuf {
        self.file("go")
    }

    /// The socket of a daemon.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    fn file(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{}.{what}", self.token))
    }

    /// How long it may still run.
    pub fn left(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Duration::from_secs(self.deadline).saturating_sub(now.unwrap_or_default())
    }
}

/// In so many seconds, as a deadline.
pub fn in_secs(secs: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs() + secs
}
