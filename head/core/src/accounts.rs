//! All accounts: who works on which, and what may be started.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{
    AccountName, AttemptId, Failure, FailureCode, Limited, RunnerName, Timestamp, limits,
    runner::{Readiness, RunnerInfo, WorkerInfo},
};

use crate::{
    Core, RequestId, Step,
    account::Met,
    calendar::SetBack,
    change::Change,
    message::{Message, Reply},
    queue::Requirement,
    row::AccountRow,
    seats::{AccountNo, Seats, UNLIMITED},
    task::Task,
    view::AccountView,
    worker::Worker,
};

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// How many attempts each may have, as configured.
    configured: BTreeMap<AccountName, u32>,
    /// Those of which there is something to know.
    rows: BTreeMap<AccountName, AccountRow>,
    /// Until when a provider has said that each is of no use.
    told: BTreeMap<AccountName, Timestamp>,
    /// What works on each.
    in_use: BTreeMap<AccountName, BTreeSet<AttemptId>>,
    /// The account of each attempt that runs.
    of: BTreeMap<AttemptId, AccountName>,
    /// When each has something to do next.
    due: BTreeSet<(Timestamp, AccountName)>,
    /// The same by number, for the scheduler.
    seats: Seats,
}

impl Accounts {
    pub fn new(configured: BTreeMap<AccountName, u32>) -> Self {
        Self {
            configured,
            ..Self::default()
        }
    }

    /// Whether an attempt may be started on it.
    pub fn has_room(&self, name: &AccountName) -> bool {
        self.used(name) < self.most(name)
    }

    /// The same once these attempts are gone.
    pub fn has_room_without(&self, name: &AccountName, gone: &[AttemptId]) -> bool {
        let of_it = gone
            .iter()
            .filter(|attempt| self.of(**attempt) == Some(name));
        let used = self.used(name) as usize;
        used.saturating_sub(of_it.count()) < self.most(name) as usize
    }

    /// The same for an account that has a number.
    pub fn has_room_at(&self, number: AccountNo) -> bool {
        self.seats.has_room(number)
    }

    /// A worker has these runners from now on. The numbers of their accounts.
    pub fn hold(&mut self, runners: &[RunnerInfo]) -> Vec<Option<AccountNo>> {
        let names = runners.iter().map(|runner| runner.account.as_ref());
        names
            .map(|name| {
                let name = name?;
                let (most, used) = (self.most(name), self.used(name));
                Some(self.seats.hold(name, most, used))
            })
            .collect()
    }

    /// Runners that were held are no more.
    pub fn release(&mut self, runners: &[RunnerInfo]) {
        for name in runners.iter().filter_map(|runner| runner.account.as_ref()) {
            self.seats.release(name);
        }
    }

    /// How many attempts it bears at once.
    fn most(&self, name: &AccountName) -> u32 {
        let configured = self.configured.get(name).copied();
        let limit = match self.rows.get(name) {
            Some(row) if row.is_parked() && !mutated!(ParkIgnored) => Some(0),
            Some(row) => row.limit(configured),
            None => configured,
        };
        limit.unwrap_or(UNLIMITED)
    }

    fn seat(&mut self, name: &AccountName) {
        let (most, used) = (self.most(name), self.used(name));
        self.seats.set(name, most, used);
    }

    pub fn is_parked(&self, name: &AccountName) -> bool {
        self.rows.get(name).is_some_and(AccountRow::is_parked)
    }

    /// Whether nothing is parked or limited anywhere.
    pub fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.configured.is_empty()
    }

    pub fn used(&self, name: &AccountName) -> u32 {
        let used = self.in_use.get(name).map_or(0, BTreeSet::len);
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    pub fn of(&self, attempt: AttemptId) -> Option<&AccountName> {
        self.of.get(&attempt)
    }

    pub fn begin(&mut self, attempt: AttemptId, name: AccountName) {
        self.in_use.entry(name.clone()).or_default().insert(attempt);
        self.seat(&name);
        self.of.insert(attempt, name);
    }

    /// An attempt no longer runs. Whether that makes room which others could not see.
    pub fn end(&mut self, attempt: AttemptId) -> bool {
        let Some(name) = self.of.remove(&attempt) else {
            return false;
        };
        let was_full = !self.is_idle() && !self.has_room(&name);
        if let Some(used) = self.in_use.get_mut(&name) {
            used.remove(&attempt);
            if used.is_empty() {
                self.in_use.remove(&name);
            }
        }
        self.seat(&name);
        was_full
    }

    fn any_parked(&self) -> bool {
        self.rows.values().any(AccountRow::is_parked)
    }

    fn insert(&mut self, row: AccountRow) {
        if let Some(due) = row.deadline() {
            self.due.insert((due, row.name.clone()));
        }
        let name = row.name.clone();
        self.rows.insert(name.clone(), row);
        self.seat(&name);
    }

    /// Takes a row as a former head has left it: who said until when it is parked is not known any
    /// more, and may have been its provider.
    pub fn restore(&mut self, row: AccountRow) {
        if let Some(until) = row.parked_until {
            self.told.insert(row.name.clone(), until);
        }
        self.insert(row);
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Those that have something to do by now.
    fn take_due(&mut self, now: Timestamp) -> Vec<AccountName> {
        let mut names = Vec::new();
        while let Some((at, name)) = self.due.first().cloned() {
            if at > now {
                break;
            }
            self.due.pop_first();
            names.push(name);
        }
        names
    }

    /// Changes what is known of an account; the row that is to be kept.
    fn change(&mut self, name: &AccountName, change: impl FnOnce(&mut AccountRow)) -> AccountRow {
        let mut row = self
            .rows
            .remove(name)
            .unwrap_or_else(|| AccountRow::new(name.clone()));
        if let Some(due) = row.deadline() {
            self.due.remove(&(due, name.clone()));
        }
        change(&mut row);
        if !row.is_parked() {
            self.told.remove(name);
        }
        if !row.is_plain() || row.limited_at.is_some() {
            self.insert(row.clone());
        }
        self.seat(name);
        row
    }
}

impl Core {
    /// Notes a limit that an attempt met at its end; whether it is one of an account, so that the
    /// attempt is not charged.
    pub(crate) fn meet_at_end(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        failure: Option<&Failure>,
        step: &mut Step,
    ) -> bool {
        let Some(failure) = failure.filter(|f| is_limit(f.code)) else {
            return false;
        };
        let limited = Limited {
            resets_at: failure.resets_at,
            message: limits::cut(&failure.message, limits::LIMITED_TEXT_BYTES_MAX),
        };
        self.meet(now, attempt, failure.code, &limited, true, step)
    }

    /// Notes a limit that a running CLI waits for by itself.
    pub(crate) fn meet_while_running(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        limited: &Limited,
        step: &mut Step,
    ) {
        let code = FailureCode::RateLimited;
        self.meet(now, attempt, code, limited, false, step);
    }

    fn meet(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        code: FailureCode,
        limited: &Limited,
        ended: bool,
        step: &mut Step,
    ) -> bool {
        let Some(name) = self.accounts.of(attempt).cloned() else {
            return false;
        };
        let since = self.tasks.get(&attempt.task).and_then(Task::held_since);
        let since = since.unwrap_or(now);
        let wall = self.wall(now);
        let met = Met {
            code,
            limited,
            since: self.wall(since),
            ended,
            in_use: self.accounts.used(&name),
        };
        let before = self.accounts.rows.get(&name).cloned();
        let row = self.accounts.change(&name, |row| row.on_met(wall, &met));
        if let Some(told) = met.told(wall) {
            let known = self.accounts.told.entry(name).or_default();
            *known = told.max(*known);
        }
        if before.as_ref() != Some(&row) {
            self.parks_may_move();
            step.changes.push(Change::Account(Box::new(row)));
        }
        true
    }

    /// Ends parks whose time is over, and lets slowed accounts bear more.
    pub(crate) fn tick_accounts(&mut self, now: Timestamp, step: &mut Step) {
        let now = self.wall(now);
        for name in self.accounts.take_due(now) {
            let mut changed = false;
            let row = self
                .accounts
                .change(&name, |row| changed = row.on_tick(now));
            if changed {
                step.changes.push(Change::Account(Box::new(row)));
                self.account_opened();
            }
        }
    }

    /// The wall clock was set back. What a provider has said stays; a rest does not become longer.
    pub(crate) fn set_accounts_back(&mut self, back: SetBack, step: &mut Step) {
        let names: Vec<AccountName> = self.accounts.rows.keys().cloned().collect();
        for name in names {
            let before = self.accounts.rows.get(&name).cloned();
            let told = self.accounts.told.get(&name).copied().unwrap_or_default();
            let row = (self.accounts).change(&name, |row| row.set_back(back, told));
            if before.as_ref() != Some(&row) {
                step.changes.push(Change::Account(Box::new(row)));
            }
        }
    }

    /// The head was started. Limits that were met by a clock that shows less now were met by one that was
    /// ahead, and the accounts are parked by it.
    pub(crate) fn bound_parks(&mut self, wall: Timestamp, step: &mut Step) {
        let rows = self.accounts.rows.values();
        let ahead = rows.filter_map(|row| {
            let by = row.limited_at?.since(wall);
            let back = SetBack { wall, by };
            (!by.is_zero() && !mutated!(ParksKeptByStart)).then(|| (row.name.clone(), back))
        });
        let ahead: Vec<(AccountName, SetBack)> = ahead.collect();
        for (name, back) in ahead {
            self.accounts.told.remove(&name);
            let row = (self.accounts).change(&name, |row| row.set_back(back, Timestamp(0)));
            if let Some(until) = row.parked_until {
                self.accounts.told.insert(name, until);
            }
            step.changes.push(Change::Account(Box::new(row)));
        }
    }

    pub(crate) fn on_set_account(
        &mut self,
        request: RequestId,
        name: AccountName,
        max: Option<u32>,
        step: &mut Step,
    ) {
        self.change_account(request, name, |row| row.max = max, step);
    }

    pub(crate) fn on_resume_account(
        &mut self,
        request: RequestId,
        name: AccountName,
        step: &mut Step,
    ) {
        self.change_account(request, name, AccountRow::on_resume, step);
    }

    fn change_account(
        &mut self,
        request: RequestId,
        name: AccountName,
        change: impl FnOnce(&mut AccountRow),
        step: &mut Step,
    ) {
        let reply = if self.knows_account(&name) {
            let row = self.accounts.change(&name, change);
            step.changes.push(Change::Account(Box::new(row)));
            self.account_opened();
            Reply::AccountDone(name)
        } else {
            Reply::NoAccount(name)
        };
        step.messages.push(Message::Reply { request, reply });
    }

    /// An account may have room that it did not have before.
    fn account_opened(&mut self) {
        self.parks_may_move();
        self.queue.refresh();
        self.ask_idle();
    }

    fn knows_account(&self, name: &AccountName) -> bool {
        let advertised = self.workers.values().flat_map(|w| &w.row.info.runners);
        self.accounts.rows.contains_key(name)
            || self.accounts.configured.contains_key(name)
            || advertised
                .filter_map(|r| r.account.as_ref())
                .any(|a| a == name)
    }

    /// Notes that workers or accounts are others than before: runners may stand in for others.
    pub(crate) fn parks_may_move(&mut self) {
        self.parks_moved = true;
        self.others_moved = true;
    }

    /// Finds out which runners are parked, for tasks that fall back on others meanwhile.
    pub(crate) fn look_at_parks(&mut self) {
        if !std::mem::take(&mut self.parks_moved) {
            return;
        }
        let wanted = self.queue.with_fallback();
        let named = wanted.flat_map(|r| r.runner.iter().chain(&r.fallback));
        let mut named: BTreeSet<RunnerName> = named.cloned().collect();
        named.extend(self.named_ahead());
        let is_parked = |runner: &RunnerName| self.is_parked_everywhere(runner);
        let parked: BTreeSet<RunnerName> = named.into_iter().filter(is_parked).collect();
        if parked != self.parked && !(mutated!(FallsBackForEver) && parked.is_subset(&self.parked))
        {
            self.parked = parked;
            self.others_moved = true;
            self.workers.values_mut().for_each(Worker::unlearn);
            self.queue.refresh();
            self.ask_idle();
        }
    }

    /// The parked ones of the runners that a task names, which may wait nowhere now.
    pub(crate) fn parked_for(&self, requirement: &Requirement) -> BTreeSet<RunnerName> {
        let named = requirement.runner.iter().chain(&requirement.fallback);
        let parked = named.filter(|runner| self.is_parked_everywhere(runner));
        parked.cloned().collect()
    }

    /// The runners that tasks name which wait at workers and may fall back on others elsewhere.
    fn named_ahead(&self) -> impl Iterator<Item = RunnerName> {
        let ahead = self.ahead.iter().filter_map(|id| self.workers.get(id));
        let tasks = ahead.flat_map(|worker| worker.attempts.keys());
        let facts = tasks.filter_map(|attempt| Some(&self.tasks.get(&attempt.task)?.row.facts));
        let wanted = facts.filter(|facts| facts.has_fallback());
        wanted.flat_map(|facts| {
            let required = Requirement::of(facts);
            required.runner.into_iter().chain(required.fallback)
        })
    }

    /// Whether a runner has no capacity because its accounts are parked, wherever it is ready.
    fn is_parked_everywhere(&self, runner: &RunnerName) -> bool {
        if !self.accounts.any_parked() {
            return false;
        }
        let connected = self.workers.values().filter(|w| w.is_connected());
        let mut ready = connected
            .flat_map(Worker::ready)
            .filter(|r| r.name == *runner)
            .peekable();
        let is_parked = |info: &RunnerInfo| {
            let account = info.account.as_ref();
            account.is_some_and(|account| self.accounts.is_parked(account))
        };
        ready.peek().is_some() && ready.all(is_parked)
    }

    /// Why a queued task waits although somebody could do it: every account for it is parked or
    /// has as many attempts as it bears.
    pub(crate) fn account_reason(&self, requirement: &Requirement) -> Option<Failure> {
        if self.accounts.is_idle() {
            return None;
        }
        let mut blocked: Option<&AccountName> = None;
        let connected = self.workers.values().filter(|w| w.is_connected());
        for worker in connected.filter(|w| w.suits(requirement)) {
            let fitting = worker.ready();
            for runner in fitting.filter(|r| requirement.wants(r, &self.parked)) {
                let name = runner.account.as_ref()?;
                if self.accounts.has_room(name) {
                    return None;
                }
                let sooner = |known: &AccountName| self.free_at(name) < self.free_at(known);
                if blocked.is_none_or(sooner) {
                    blocked = Some(name);
                }
            }
        }
        blocked.map(|name| self.why_full(name))
    }

    /// When an account is no longer parked; now for one that is only full.
    fn free_at(&self, name: &AccountName) -> Timestamp {
        let row = self.accounts.rows.get(name);
        row.and_then(|row| row.parked_until).unwrap_or_default()
    }

    fn why_full(&self, name: &AccountName) -> Failure {
        let row = self.accounts.rows.get(name);
        let (until, why) = match row {
            Some(row) => (row.parked_until, row.why.as_str()),
            None => (None, ""),
        };
        let Some(until) = until else {
            return self.why_no_more(name);
        };
        let parked = format!("parked until {} UTC: {why}", clock(until));
        let failure = match row.is_some_and(|row| row.is_empty) {
            true => Failure::new(
                FailureCode::QuotaExhausted,
                format!(
                    "the quota of account {name} is used up, and it is {parked}; with new credit \
                     `ctl accounts resume {name}` ends that"
                ),
            ),
            false => Failure::new(
                FailureCode::RateLimited,
                format!("account {name} is {parked}"),
            ),
        };
        Failure {
            resets_at: Some(until),
            ..failure
        }
    }

    /// Of an account that is not parked: this cluster lets it have no more attempts, or it bears no more for a
    /// while, since it met its limit again and again.
    fn why_no_more(&self, name: &AccountName) -> Failure {
        let row = self.accounts.rows.get(name);
        let set = row.and_then(|row| row.max);
        let own = set.or(self.accounts.configured.get(name).copied());
        let slow = row.and_then(|row| row.slow).map(|slow| slow.window);
        let Some(own) = own.filter(|own| slow.is_none_or(|slow| *own <= slow)) else {
            let used = self.accounts.used(name);
            let text = format!(
                "account {name} met its limit again and again, and bears no more than the {used} attempts that it \
                 has, for a while"
            );
            return Failure::new(FailureCode::RateLimited, text);
        };
        let change = format!("`ctl accounts set {name} --max`");
        let place = match set {
            Some(_) => format!("{change} has set that, and changes it"),
            None => format!(
                "`accounts.{name}.max` in the head's orchestra.yaml says so, and {change} changes it"
            ),
        };
        let text = format!(
            "account {name} has all the attempts that this cluster lets it have at once, {own}; {place}"
        );
        Failure::new(FailureCode::AccountFull, text)
    }

    /// Reads all accounts: those that workers have, and those of which something is known.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountView<'_>> {
        let mut views: BTreeMap<&AccountName, AccountView<'_>> = BTreeMap::new();
        let known = self
            .accounts
            .rows
            .keys()
            .chain(self.accounts.configured.keys());
        for name in known {
            views.entry(name).or_insert_with(|| self.account_view(name));
        }
        for worker in self.workers.values() {
            for runner in &worker.row.info.runners {
                let Some(name) = runner.account.as_ref().filter(|_| is_there(runner)) else {
                    continue;
                };
                let view = views.entry(name).or_insert_with(|| self.account_view(name));
                view.runners.insert(&runner.name);
                view.workers.insert(&worker.row.info.id);
            }
        }
        views.into_values().collect()
    }

    /// Reads one account.
    #[must_use]
    pub fn account<'a>(&'a self, name: &AccountName) -> Option<AccountView<'a>> {
        self.accounts().into_iter().find(|view| view.name == name)
    }

    /// Reads the accounts that nothing is started on.
    #[must_use]
    pub fn parked_accounts(&self) -> Vec<AccountView<'_>> {
        let parked = self.accounts.rows.values().filter(|row| row.is_parked());
        parked.map(|row| self.account_view(&row.name)).collect()
    }

    fn account_view<'a>(&'a self, name: &'a AccountName) -> AccountView<'a> {
        let row = self.accounts.rows.get(name);
        let configured = self.accounts.configured.get(name).copied();
        AccountView {
            name,
            in_use: self.accounts.used(name),
            max: row.and_then(|row| row.max).or(configured),
            slowed_to: row.and_then(|row| row.slow).map(|slow| slow.window),
            parked_until: row.and_then(|row| row.parked_until),
            why: row.map_or("", |row| row.why.as_str()),
            runners: BTreeSet::new(),
            workers: BTreeSet::new(),
        }
    }
}

/// Gives each agent's runner an account: one of its own where the worker names none.
pub(crate) fn name_accounts(info: &mut WorkerInfo) {
    let worker = &info.id;
    for runner in info.runners.iter_mut().filter(|r| r.agentic) {
        runner
            .account
            .get_or_insert_with(|| AccountName::of_worker(&runner.name, worker));
    }
}

/// Whether a failure is one of an account, and not of the task.
pub(crate) fn is_limit(code: FailureCode) -> bool {
    code == FailureCode::RateLimited || code == FailureCode::QuotaExhausted
}

fn is_there(runner: &RunnerInfo) -> bool {
    match runner.readiness {
        Readiness::Ready | Readiness::NotReady { .. } => true,
        Readiness::Missing => false,
    }
}

/// The hour and minute of a moment, in UTC.
fn clock(at: Timestamp) -> String {
    let minutes = at.0 / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}
