//! The scripts in Redis and the machine in memory come to the same figures, whatever happens to a tenant.

use super::super::limits::{Account, Limits, Taken, Verdict, Wanted};
use super::super::redis::RedisAccounts;
use super::Duration;
use super::RedisServer;
use crate::config::Secret;

/// xorshift: the same story each time.
struct Story(u64);

impl Story {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[tokio::test]
async fn redis_and_memory_decide_alike() {
    let Some(server) = RedisServer::start() else { return };
    let redis = RedisAccounts::new(&Secret::new(server.url()), "same", Duration::from_secs(10)).unwrap();
    let rates = [0, 1, 7, 60, 1000, 99_999_989];
    for seed in 1..=12 {
        let mut story = Story(seed * 0x9e37_79b9);
        let tenant = format!("t{seed}");
        let mut pick = |rates: &[u64]| rates[story.below(rates.len() as u64) as usize];
        let limits = Limits {
            requests_per_minute: pick(&rates),
            tokens_per_minute: pick(&rates),
            concurrent: pick(&[0, 2, 5]),
            tokens_per_day: pick(&[0, 5_000, 100_000_000]),
            money_per_day: pick(&[0, 70, 1_000_000, 1_000_000_000_000_000]),
        };
        let mut memory = Account::default();
        let mut now = 1_795_000_000_000_000 + story.below(86_400_000_000);
        let mut open: Vec<(Wanted, u64)> = Vec::new();
        let mut refused = 0;
        for lease in 0..150 {
            now += [1, 999, 700_000, 20_000_000, 1_000_000_000, 40_000_000_000][story.below(6) as usize];
            // Now and then the clock is put back.
            now -= if story.below(12) == 0 { story.below(7_200_000_000) } else { 0 };
            // Of currencies with small units, and of dear ones.
            let unit = [1, 1, 999_999_999_989][story.below(3) as usize];
            let (tokens, money) = (story.below(900), story.below(30) * unit);
            // Some are over as soon as they are let in.
            let lease_us = [0, 900_000_000, 900_000_000][story.below(3) as usize];
            let wanted = Wanted { tokens, money, lease, lease_us };
            let here = memory.admit(&limits, wanted, now);
            // Asked twice at times, and let in once.
            let asked = if lease_us > 0 { 1 + story.below(2) } else { 1 };
            for _ in 0..asked {
                let there: Verdict = redis.admit(&tenant, &limits, wanted, now).await.unwrap();
                assert_eq!(here, there, "seed {seed}, request {lease}, {limits:?}");
            }
            match here.refused {
                None => open.push((wanted, here.day)),
                Some(_) => refused += 1,
            }
            if story.below(3) > 0 && !open.is_empty() {
                let (wanted, day) = open.swap_remove(story.below(open.len() as u64) as usize);
                let (tokens, money) =
                    (story.below(2000), story.below(40) * [1, 999_999_999_989][story.below(2) as usize]);
                let Wanted { lease, tokens: charged, money: charged_money, .. } = wanted;
                let taken = Taken { lease, charged, charged_money, day, tokens, money };
                // Said twice at times, and heard once.
                for _ in 0..=story.below(2) {
                    memory.settle(&limits, taken, now);
                    redis.settle(&tenant, &limits, taken, now).await.unwrap();
                }
                let (here, there) = (memory.used(&limits, now), redis.used(&tenant, &limits, now).await.unwrap());
                assert_eq!(here, there, "seed {seed}, after {lease}");
            }
        }
        assert!(refused < 150, "somebody is let in");
    }
}
