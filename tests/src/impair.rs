//! What can be wrong with a cable.

use std::process::Command;

use crate::{Cable, run};

/// Something that is wrong with a cable until it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes.
    Drop,
    /// Half open: nothing comes from there, and what we send arrives.
    Deaf,
    /// Half open: nothing gets there, and what they send arrives.
    Mute,
    /// Connections are reset at both ends, new ones are refused.
    Reset,
    /// Every fifth packet is lost, either way.
    Lossy,
}

/// What is to be done with a packet.
const DROP: &[&str] = &["-j", "DROP"];
const RESET: &[&str] = &["-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"];
const LOSE: &[&str] = &[
    "-m",
    "statistic",
    "--mode",
    "random",
    "--probability",
    "0.2",
    "-j",
    "DROP",
];

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Drop, Self::Deaf, Self::Mute, Self::Reset, Self::Lossy];

    /// What becomes of packets that come, and of those that go.
    fn rules(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Drop => (DROP, DROP),
            Self::Deaf => (DROP, &[]),
            Self::Mute => (&[], DROP),
            Self::Reset => (RESET, RESET),
            Self::Lossy => (LOSE, LOSE),
        }
    }
}

impl Cable {
    /// Impairs it, by `iptables` at our end.
    pub fn impair(self, fault: Fault) -> anyhow::Result<()> {
        self.change("-A", fault)
    }

    /// Mends what was impaired.
    pub fn mend(self, fault: Fault) -> anyhow::Result<()> {
        self.change("-D", fault)
    }

    fn change(self, verb: &str, fault: Fault) -> anyhow::Result<()> {
        let (come, go) = fault.rules();
        for (chain, side, rule) in [("INPUT", "-i", come), ("OUTPUT", "-o", go)] {
            if !rule.is_empty() {
                let mut iptables = Command::new("iptables");
                iptables.args(["-w", "10", verb, chain, side, &self.name()]);
                iptables.args(rule);
                run(iptables, b"")?.ok()?;
            }
        }
        Ok(())
    }
}
