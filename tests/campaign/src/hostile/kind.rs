//! How a program tries to outlive its attempt, and how that attempt ends.

/// Ways to escape from who wants to end one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Leaves session and process group.
    Setsid,
    /// Leaves its parent too.
    DoubleFork,
    /// Ignores SIGTERM, SIGINT and SIGHUP.
    IgnoresTerm,
    /// Forgets its environment, its directory and its files.
    Scrubbed,
    /// Forks on and on: one that has many children, and one that is another process each time.
    ForkLoop,
    /// Keeps the standard output of its attempt open.
    HoldsStdout,
    /// Is stopped by SIGSTOP.
    Stopped,
    /// Serves a socket as a daemon, with a helper that is started again when it ends.
    Daemon,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Setsid,
        Self::DoubleFork,
        Self::IgnoresTerm,
        Self::Scrubbed,
        Self::ForkLoop,
        Self::HoldsStdout,
        Self::Stopped,
        Self::Daemon,
    ];

    /// A word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Setsid => "setsid",
            Self::DoubleFork => "double-fork",
            Self::IgnoresTerm => "ignores-term",
            Self::Scrubbed => "scrubbed",
            Self::ForkLoop => "fork-loop",
            Self::HoldsStdout => "holds-stdout",
            Self::Stopped => "stopped",
            Self::Daemon => "daemon",
        }
    }

    /// The kind with that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How the attempt of a hostile program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with success; its tree stays behind.
    Ends,
    /// It is cancelled, and the first signal ends its first process.
    Cancelled,
    /// It is cancelled, and its first process ignores all but SIGKILL.
    Deaf,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ends, Self::Cancelled, Self::Deaf];

    /// A word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ends => "ends",
            Self::Cancelled => "cancelled",
            Self::Deaf => "deaf",
        }
    }

    /// The ending with that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| ending.name() == name)
    }
}
