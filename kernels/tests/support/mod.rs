//! The one comparer of the numeric tests, and tests of the comparer itself.

mod numbers;

pub(crate) use numbers::Numbers;

/// An element's reference value in f64 and the sum of magnitudes its rounding error scales with.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) value: f64,
    pub(crate) magnitude: f64,
}

/// Fails unless every element is within `steps` f32 rounding steps of its magnitude.
pub(crate) fn compare(what: &str, got: &[f32], expected: &[Expected], steps: f64) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("{what}: {} elements, expected {}", got.len(), expected.len()));
    }
    let mut worst: Option<(usize, f64)> = None;
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected.value).abs();
        let bound = steps * f64::from(f32::EPSILON) * expected.magnitude.max(f64::from(f32::MIN_POSITIVE));
        // Asked this way round, a NaN does not fit.
        let fits = error <= bound;
        if !fits && worst.is_none_or(|(_, before)| error / bound > before) {
            worst = Some((index, error / bound));
        }
    }
    match worst {
        None => Ok(()),
        Some((index, ratio)) => Err(format!(
            "{what}: element {index} is {} where {} is due, {ratio:.2} times the bound",
            got[index], expected[index].value
        )),
    }
}

/// All of them, or the few under Miri, which takes some thousand times as long for each.
#[allow(dead_code)] // not every test has shapes to leave out
pub(crate) fn under_miri<T: Clone>(all: &[T], few: &[T]) -> Vec<T> {
    if cfg!(miri) { few.to_vec() } else { all.to_vec() }
}

/// The kernels to test: all that this CPU can run, or those of `WEIR_TEST_KERNELS`, for which an emulator was started and
/// which alone it is to run (`cargo xtask avx512`).
#[allow(dead_code)] // not every test goes through the kernels
pub(crate) fn present<K>(entries: impl IntoIterator<Item = (&'static str, Option<K>)>) -> Vec<K> {
    let wanted = std::env::var("WEIR_TEST_KERNELS").ok();
    // Miri knows no such instructions: it looks at the plain code.
    let least = if cfg!(target_arch = "x86_64") && !cfg!(miri) { "avx2" } else { "portable" };
    let needed = |name: &str| wanted.as_deref().unwrap_or(least).split(',').any(|needed| needed == name);
    let (mut present, mut met) = (Vec::new(), 0);
    for (name, kernels) in entries.into_iter().filter(|(name, _)| wanted.is_none() || needed(name)) {
        println!("{name}: {}", if kernels.is_some() { "tested" } else { "not on this CPU" });
        if needed(name) {
            assert!(kernels.is_some(), "this machine cannot test the kernels `{name}`");
            met += 1;
        }
        present.extend(kernels);
    }
    assert!(met > 0, "there are no kernels `{}`", wanted.as_deref().unwrap_or(least));
    present
}

#[test]
fn the_comparer_can_fail() {
    let expected = [Expected { value: 1.0, magnitude: 1.0 }, Expected { value: -2.0, magnitude: 2.0 }];
    assert!(compare("equal", &[1.0, -2.0], &expected, 1.0).is_ok());
    for wrong in [[f32::NAN, -2.0], [0.0, -2.0], [1.0, 2.0], [1.0, f32::INFINITY], [1.0, -2.001]] {
        assert!(compare("wrong", &wrong, &expected, 4.0).is_err(), "{wrong:?} passed");
    }
    assert!(compare("short", &[1.0], &expected, 4.0).is_err());
}
