//! The device's forward, with the kernels compiled for the host, against the CPU's on the golden checkpoint: prefill,
//! blocks over a cache, several requests in one step.

#[path = "../../../kernels/tests/support/host_device.rs"]
mod host_device;

use weir_kernels::cuda::{Gpu, WeightFormat};

use self::host_device::HostDevice;
use super::forward::DeviceForward;
use super::weights::DeviceModel;
use crate::cache::{KvCache, pages_for};
use crate::checkpoint::open::Checkpoint;
use crate::model::forward::{Lane, Visibility};
use crate::model::head::{Predictions, Wanted};
use crate::model::recipe::Recipe;
use crate::model::weights::Model;
use crate::options::{KvType, ModelFiles};
use crate::pack::pack;
use crate::test_files;

const BLOCK: usize = 32;

fn golden() -> Checkpoint {
    Checkpoint::open(ModelFiles::Dir(test_files::golden())).expect("golden checkpoint")
}

fn device(format: WeightFormat, kind: KvType, pages: usize, descending: bool) -> DeviceForward<HostDevice> {
    let checkpoint = golden();
    let config = checkpoint.config().expect("config");
    let gpu = Gpu::new(HostDevice::new(descending));
    let model = DeviceModel::load(config, checkpoint.weights().expect("weights"), gpu, format).expect("model");
    let pages = model.pages(kind, pages).expect("pages");
    DeviceForward::new(model, pages)
}

fn cpu() -> Model {
    let checkpoint = golden();
    let (config, weights) = (checkpoint.config().expect("config"), checkpoint.weights().expect("weights"));
    Model::load(config, weights, crate::Recipe::EXACT).expect("model")
}

fn ids(count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 37 + 11) % vocab) as u32).collect()
}

/// Largest difference of two sets of logits.
fn difference(got: &[Vec<f32>], due: &[Vec<f32>]) -> f32 {
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), due.iter().map(Vec::len).collect::<Vec<_>>());
    let pairs = got.iter().flatten().zip(due.iter().flatten());
    pairs.fold(0.0, |most, (got, due)| {
        assert!(got.is_finite(), "{got} where {due} is due");
        most.max((got - due).abs())
    })
}

/// Two requests in one step after another: the first reads 40 tokens and then two blocks of 32, the second joins with 7
/// tokens; logits of what is behind the first 3 tokens of a step. At last both see their block again: the first computes
/// some of it, where three tokens are new.
fn two_requests<E: std::fmt::Debug>(
    vocab: usize,
    caches: &mut [KvCache; 2],
    forward: impl Fn(&mut [Lane<'_>]) -> Result<Predictions, E>,
) -> Vec<Vec<f32>> {
    let (first, second) = (ids(104, vocab), ids(39, vocab));
    let mut all = Vec::new();
    for step in [(0..40, 0..0), (40..72, 0..7), (72..104, 7..39)] {
        let [one, two] = &mut *caches;
        let visibility = Visibility::Blocks(BLOCK);
        let mut lanes = vec![Lane {
            tokens: &first[step.0.clone()],
            computed: None,
            logits_from: 3,
            wanted: Wanted::All,
            cache: &mut *one,
            visibility,
        }];
        if !step.1.is_empty() {
            lanes.push(Lane {
                tokens: &second[step.1.clone()],
                computed: None,
                logits_from: 0,
                wanted: Wanted::All,
                cache: &mut *two,
                visibility,
            });
        }
        let mut predictions = forward(&mut lanes).expect("forward");
        all.extend((0..lanes.len()).map(|lane| predictions.of_lane(lane).0.to_vec()));
        drop(lanes);
        if step.0.end < first.len() {
            one.commit(&first[step.0]);
            two.commit(&second[step.1]);
        }
    }
    let mut again = first[72..].to_vec();
    [0, 17, 18].into_iter().for_each(|at| again[at] = 1);
    let [one, two] = caches;
    let visibility = Visibility::Blocks(BLOCK);
    let mut predictions = forward(&mut [
        Lane {
            tokens: &again,
            computed: Some(&[0, 3, 17, 18, 31]),
            logits_from: 0,
            wanted: Wanted::Logits(&[3, 18, 31]),
            cache: one,
            visibility,
        },
        Lane { tokens: &second[7..], computed: None, logits_from: 30, wanted: Wanted::All, cache: two, visibility },
    ])
    .expect("forward");
    all.extend((0..2).map(|lane| predictions.of_lane(lane).0.to_vec()));
    all
}

/// What [`two_requests`] needs.
const PAGES: usize = 4 + 2;

fn on_cpu(model: &Model) -> Vec<Vec<f32>> {
    let mut caches = [104, 39].map(|positions| KvCache::alone(model.kv_shape(), KvType::F32, positions));
    two_requests(model.config.vocab, &mut caches, |lanes| model.forward(lanes))
}

fn on_device(forward: &DeviceForward<HostDevice>) -> Vec<Vec<f32>> {
    let shape = forward.model.kv_shape();
    let mut caches = KvCache::on_device(shape, [104, 39].map(pages_for));
    two_requests(forward.model.config.vocab, &mut caches, |lanes| forward.forward(lanes))
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn the_devices_forward_equals_the_cpus_on_the_golden_model() {
    let cpu = cpu();
    let due = on_cpu(&cpu);
    let [up, down] = [false, true].map(|order| {
        let forward = device(WeightFormat::F32, KvType::F32, PAGES, order);
        let (parameters, stored_bytes) = (forward.model.parameters, forward.model.stored_bytes);
        assert_eq!((parameters, stored_bytes), (cpu.parameters, cpu.stored_bytes));
        on_device(&forward)
    });
    assert_eq!(up, down, "the order of threads or blocks shows");
    let most = difference(&up, &due);
    println!("f32: largest difference {most:e}");
    assert!(most < 5e-5, "{most}");
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn narrower_weights_and_caches_come_near() {
    let due = on_cpu(&cpu());
    // Rounding sends some tokens of a random model to other experts, so single logits may be far off: the median tells.
    for (format, kind, bound) in [
        (WeightFormat::F32, KvType::Bf16, 0.01),
        (WeightFormat::Bf16, KvType::F32, 0.03),
        (WeightFormat::Q8, KvType::F32, 0.08),
        (WeightFormat::Q4, KvType::F32, 0.9),
    ] {
        let got = on_device(&device(format, kind, PAGES, false));
        let pairs = got.iter().flatten().zip(due.iter().flatten());
        let mut off: Vec<f32> = pairs.map(|(got, due)| (got - due).abs()).collect();
        off.sort_by(f32::total_cmp);
        let median = off[off.len() / 2];
        println!("{format:?} {kind:?}: median difference {median:e}, largest {:e}", off[off.len() - 1]);
        assert!(median > 0.0 && median < bound, "{format:?} {kind:?}: {median}");
    }
}

#[test]
#[cfg_attr(not(weir_cxx), ignore = "no C++ compiler")]
fn a_packed_checkpoint_is_refused_and_says_what_to_take() {
    let folder = tempfile::tempdir().expect("folder");
    let nano = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/diffusion");
    pack(&nano, folder.path(), &Recipe::DEFAULT, |_| {}).expect("packs");
    let checkpoint = Checkpoint::open(ModelFiles::Dir(folder.path().into())).expect("opens");
    let (config, weights) = (checkpoint.config().expect("config"), checkpoint.weights().expect("weights"));
    let loaded = DeviceModel::load(config, weights, Gpu::new(HostDevice::new(false)), WeightFormat::Bf16);
    let text = loaded.err().expect("packed for the CPU").to_string();
    assert!(text.contains("word_embeddings") && text.contains("the checkpoint it was made from"), "{text}");
}
