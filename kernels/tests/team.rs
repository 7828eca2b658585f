//! Products from many threads at once, on teams of every size: everybody gets the result that one thread gets.

mod support;

use support::{Numbers, under_miri};
use weir_kernels::packed::{Format, Inputs, PackedWeights, Products, Team, best};

#[test]
fn callers_at_the_same_time_do_not_disturb_each_other() {
    // Under Miri still enough bytes to be shared out.
    let (m, n, k) = if cfg!(miri) { (1, 32, 64) } else { (9, 1600, 256) };
    let calls = if cfg!(miri) { 1 } else { 40 };
    let mut numbers = Numbers(3);
    let (x, w) = (numbers.take(m * k), numbers.take(n * k));
    let packed = PackedWeights::pack(Format::Q4, &w, n, k).expect("packs");
    let product = |team: &Team| {
        let products = Products { kernels: best(), team };
        let (mut inputs, mut y) = (Inputs::default(), vec![0.0; m * n]);
        products.fill_for(&mut inputs, &x, m, &packed).expect("shape");
        products.linear(&inputs, &packed, &mut y).expect("shape");
        y
    };
    let due = product(&Team::new(1));
    for threads in under_miri(&[1, 2, 3, 5], &[3]) {
        let team = Team::new(threads);
        assert_eq!(team.threads(), threads);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..calls).for_each(|_| assert_eq!(product(&team), due)));
            }
        });
    }
    // Teams that never worked, and the shared one, end as well.
    drop(Team::new(4));
    assert_eq!(product(Team::shared()), due);
}
