//! Recordings of the real CLIs, fed to their adapters: what is told, what is answered, what it is judged.

mod acp;
mod broken;
mod claude;
mod codex;
mod plain;
mod replay;
