//! Who goes first: tenants take turns, background waits, a long prompt stalls nobody, memory is promised before a
//! request joins, and a refusal says how long the wait would be.

use std::time::Duration;

use futures::FutureExt;

use crate::cache::Pages;

use super::*;

fn of(tenant: &str, background: bool, prompt: Vec<u32>, limit: usize) -> (Job, Generation) {
    let (job, generation) = job(prompt, limit, true);
    (Job { tenant: tenant.into(), background, ..job }, generation)
}

/// Whether the answer's end is there; takes what comes before it.
fn has_ended(generation: &mut Generation) -> bool {
    loop {
        match generation.next().now_or_never() {
            Some(Some(event)) if is_done(&event) => return true,
            Some(Some(_)) => {}
            Some(None) | None => return false,
        }
    }
}

/// Pushes `jobs` while the one place is taken, then gives permits until all are answered: the order of the answers.
fn order(jobs: &[(&str, bool)]) -> Vec<usize> {
    let bench = bench(|_, _| ROLE_END as f32, true, 1, 16);
    let (first, running) = of("x", false, vec![1; 8], 5);
    bench.queue.push(first).expect("room");
    // Only once it runs: whatever waits now waits together.
    while bench.queue.load().running == 0 {
        std::thread::yield_now();
    }
    let mut waiting = Vec::new();
    for (index, (tenant, background)) in jobs.iter().enumerate() {
        let (job, generation) = of(tenant, *background, vec![1; 8], 5);
        bench.queue.push(job).expect("room");
        waiting.push((index, generation));
    }
    bench.permits.send(()).expect("the engine waits");
    assert!(is_done(&last(running)));
    let mut order = Vec::new();
    while !waiting.is_empty() {
        bench.permits.send(()).expect("the engine waits");
        // Every permit ends exactly one.
        let done = 'found: loop {
            for (at, (_, generation)) in waiting.iter_mut().enumerate() {
                if has_ended(generation) {
                    break 'found at;
                }
            }
            std::thread::yield_now();
        };
        order.push(waiting.remove(done).0);
    }
    bench.queue.close();
    order
}

#[test]
fn tenants_take_turns_whoever_asks_more() {
    let many = [("a", false), ("a", false), ("a", false), ("b", false), ("a", false), ("c", false)];
    assert_eq!(order(&many), [0, 3, 5, 1, 2, 4]);
}

#[test]
fn interactive_goes_before_background() {
    assert_eq!(order(&[("a", true), ("a", true), ("b", false), ("a", false)]), [2, 3, 0, 1]);
}

#[test]
fn background_is_passed_over_so_often_and_no_more() {
    let queue = Queue::new(1, 64);
    let push = |tenant: &str, background| {
        let (job, generation) = of(tenant, background, vec![1; 8], 5);
        queue.push(job).expect("room");
        generation
    };
    let mut all = vec![push("a", true)];
    let passed = (0..20).take_while(|_| {
        all.push(push("b", false));
        !queue.next([].iter()).expect("two wait").background
    });
    assert_eq!(passed.count(), 16);
}

#[test]
fn one_that_waits_for_memory_and_is_given_up_holds_up_nobody() {
    let queue = Queue::new(2, 8);
    let (large, given_up) = of("a", false, vec![1; 8], 5);
    let (small, waiting) = of("b", false, vec![1; 8], 5);
    queue.push(large).expect("room");
    let large = queue.next([].iter()).expect("it waits");
    queue.hold(large);
    queue.push(small).expect("room");
    drop(given_up);
    let running: Arc<str> = "c".into();
    assert!(queue.wait(1));
    assert_eq!(queue.next([running].iter()).map(|job| job.tenant), Some("b".into()));
    drop(waiting);
}

#[test]
fn a_long_prompt_does_not_hold_up_a_short_one() {
    for diffusion in [false, true] {
        let bench = bench(|_, _| ROLE_END as f32, true, 4, 4);
        let (long, reading) = job(vec![1; 3200], 5, diffusion);
        let (short, answering) = job(vec![2; 8], 5, diffusion);
        bench.queue.push(long).expect("room");
        bench.queue.push(short).expect("room");
        // One step may have begun before the short one came; it is answered in the next.
        (0..2).for_each(|_| bench.permits.send(()).expect("the engine waits"));
        assert!(is_done(&last(answering)), "diffusion {diffusion}");
        assert!(bench.forwards.load(Ordering::SeqCst) <= 2);
        (0..60).for_each(|_| bench.permits.send(()).expect("the engine waits"));
        assert!(is_done(&last(reading)));
        bench.queue.close();
    }
}

#[test]
fn all_prompts_together_stay_within_the_budget_of_a_step() {
    let bench = bench(|_, _| ROLE_END as f32, true, 4, 4);
    let (jobs, generations): (Vec<Job>, Vec<Generation>) =
        (0..4).map(|first| job([vec![first; 1], vec![1; 127]].concat(), 1, false)).unzip();
    jobs.into_iter().for_each(|job| bench.queue.push(job).expect("room"));
    // 4 * 128 tokens, 64 a step: with all at once it would be over after two.
    (0..7).for_each(|_| bench.permits.send(()).expect("the engine waits"));
    (0..5).for_each(|_| bench.permits.send(()).expect("the engine waits"));
    assert!(generations.into_iter().all(|generation| is_done(&last(generation))));
    assert!(bench.forwards.load(Ordering::SeqCst) >= 8);
    bench.queue.close();
}

#[test]
fn one_that_does_not_fit_waits_and_is_next_and_nobody_dies_half_way() {
    // Each needs 3 of 4 pages, so they run one by one; the small one behind them does not overtake.
    let bench = bench_with(|_, _| 97.0, false, (4, 8), 4);
    let answers: Vec<Generation> = [(3u32, 90), (4, 90), (5, 90), (6, 8)]
        .into_iter()
        .map(|(first, limit)| {
            let (job, generation) = job(vec![first; 4], limit, true);
            bench.queue.push(job).expect("room");
            generation
        })
        .collect();
    assert!(answers.into_iter().all(|generation| is_done(&last(generation))));
    assert!(bench.most.load(Ordering::SeqCst) <= 2, "a large one and a small one at most");
    bench.queue.close();
    bench.thread.join().expect("ends");
    let load = bench.queue.load();
    assert_eq!((load.running, load.queued, load.free_pages + load.shared_pages), (0, 0, 4));
}

#[test]
fn a_prompt_that_was_read_is_not_read_again() {
    for diffusion in [false, true] {
        let bench = bench(|_, _| ROLE_END as f32, false, 4, 4);
        let ask = |cached: u64| {
            let (job, generation) = job(vec![1; 1000], 5, diffusion);
            bench.queue.push(job).expect("room");
            let GenerationEvent::Done { usage, .. } = last(generation) else { unreachable!("it ends well") };
            assert_eq!(usage.cached_tokens, cached);
            bench.forwards.load(Ordering::SeqCst)
        };
        let first = ask(0);
        assert_eq!(ask(992) - first, 1, "31 whole pages are known; one forward reads the rest and answers");
        bench.queue.close();
    }
}

#[test]
fn a_refusal_says_how_long_the_wait_would_be() {
    let queue = Queue::new(1, 2);
    let refused = |queue: &Queue| {
        let waiting: Vec<Generation> = (0..3)
            .filter_map(|_| {
                let (job, generation) = job(vec![1; 8], 5, true);
                queue.push(job).ok().map(|()| generation)
            })
            .collect();
        let error = queue.push(job(vec![1; 8], 5, true).0).expect_err("full");
        drop(waiting);
        error
    };
    assert_eq!(refused(&queue), EngineError::Overloaded { limit: 2, retry_after: None }, "nothing was measured yet");
    queue.stepped(Duration::from_secs(3), 0, Pages::default());
    queue.stepped(Duration::from_secs(1), 2, Pages::default());
    // One leaves every two seconds; three wait, and it would be the fourth.
    let error = refused(&queue);
    assert_eq!(error, EngineError::Overloaded { limit: 2, retry_after: Some(Duration::from_secs(8)) });
    assert!(error.to_string().contains("8.0 s"), "{error}");
}

#[test]
fn a_tenant_that_fills_the_queue_gives_way_to_another() {
    let queue = Queue::new(1, 2);
    let push = |tenant: &str| {
        let (job, generation) = of(tenant, false, vec![1; 8], 5);
        queue.push(job).map(|()| generation)
    };
    let kept = [push("greedy").expect("room"), push("greedy").expect("room")];
    let pushed_out = push("greedy").expect("room");
    let refused = push("greedy").map(|_| ()).expect_err("it has the whole queue");
    assert!(matches!(refused, EngineError::Overloaded { limit: 2, .. }));
    let other = push("modest").expect("a place is made");
    assert!(matches!(last(pushed_out), GenerationEvent::Failed(EngineError::Overloaded { limit: 2, .. })));
    assert!(push("modest").is_err(), "two of three would be more than a fair share");
    assert_eq!(queue.load().queued, 3);
    drop((kept, other));
}
