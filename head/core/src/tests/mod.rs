//! Tests of the decisions: what a step changes and says, and nothing else.

mod accounts;
mod bench;
mod budgets;
mod clock;
mod cordon;
mod days;
mod dependants;
mod dispatch;
mod elsewhere;
mod fairness;
mod higher;
mod life;
mod limits;
mod moved;
mod overdue;
mod remove;
mod retention;
mod retract;
mod room;
mod run_time;
mod schedule;
mod sessions;
mod stuck;
mod submit;
mod table;
mod take_back;
