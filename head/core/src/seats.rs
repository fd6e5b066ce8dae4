//! How many attempts accounts may have and have, by number: every pick asks for it, and must not
//! compare names for that.

use std::collections::BTreeMap;

use orchestra_types::AccountName;

/// The number of an account, for as long as a runner of a worker holds it.
pub(crate) type AccountNo = u32;

/// What an account without a limit bears.
pub(crate) const UNLIMITED: u32 = u32::MAX;

#[derive(Debug)]
struct Seat {
    /// How many attempts it bears at once; none while it is parked.
    most: u32,
    used: u32,
    /// How many runners hold its number.
    holders: usize,
}

/// All accounts that a runner of a worker works on.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    numbers: BTreeMap<AccountName, AccountNo>,
    all: Vec<Seat>,
    /// The numbers that nobody holds.
    free: Vec<AccountNo>,
}

impl Seats {
    /// Gives a runner the number of its account.
    pub fn hold(&mut self, name: &AccountName, most: u32, used: u32) -> AccountNo {
        if let Some(number) = self.numbers.get(name) {
            self.all[*number as usize].holders += 1;
            return *number;
        }
        let seat = Seat {
            most,
            used,
            holders: 1,
        };
        let number = self.place(seat);
        self.numbers.insert(name.clone(), number);
        number
    }

    fn place(&mut self, seat: Seat) -> AccountNo {
        if let Some(number) = self.free.pop() {
            self.all[number as usize] = seat;
            return number;
        }
        let number = AccountNo::try_from(self.all.len()).expect("there are fewer runners");
        self.all.push(seat);
        number
    }

    /// A runner has this account no longer. What no runner has is not kept.
    pub fn release(&mut self, name: &AccountName) {
        let Some(number) = self.numbers.get(name).copied() else {
            debug_assert!(false, "{name} is not held");
            return;
        };
        let seat = &mut self.all[number as usize];
        seat.holders -= 1;
        if seat.holders == 0 {
            self.numbers.remove(name);
            self.free.push(number);
        }
    }

    /// An account bears or has another number of attempts.
    pub fn set(&mut self, name: &AccountName, most: u32, used: u32) {
        if let Some(number) = self.numbers.get(name) {
            let seat = &mut self.all[*number as usize];
            (seat.most, seat.used) = (most, used);
        }
    }

    pub fn has_room(&self, number: AccountNo) -> bool {
        let seat = &self.all[number as usize];
        debug_assert!(seat.holders > 0, "nobody holds {number}");
        seat.used < seat.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AccountName {
        text.parse().unwrap()
    }

    #[test]
    fn an_account_that_no_runner_has_is_forgotten_and_its_number_used_again() {
        let mut seats = Seats::default();
        let first = seats.hold(&name("a"), 1, 1);
        assert_eq!(seats.hold(&name("a"), 1, 1), first);
        seats.release(&name("a"));
        assert!(!seats.has_room(first), "another runner has it still");
        seats.release(&name("a"));
        for other in 0..1000 {
            let other = name(&format!("b{other}"));
            assert_eq!(seats.hold(&other, 1, 0), first);
            assert!(seats.has_room(first));
            seats.release(&other);
        }
        assert_eq!(seats.all.len(), 1);
        assert!(seats.numbers.is_empty());
    }
}
