//! What runs an engine's forwards: the model on the CPU or on a GPU, with the K/V memory that goes with it. Must never
//! fall back from one to the other by itself: the operator asked for one.

use std::sync::Arc;

use weir_kernels::{Kernels, PANEL};

use crate::cache::{KvShape, Pool, pages_for};
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::tensors::Weights;
use crate::dense::weights::DenseModel;
use crate::error::LoadError;
use crate::model::forward::Lane;
use crate::model::head::Predictions;
use crate::model::recipe::Recipe;
use crate::model::weights::Model;
use crate::options::{ComputeDevice, EngineKind, EngineOptions, KvType};

/// A loaded model, wherever it lies.
pub(crate) enum Processor {
    /// On the CPU.
    Cpu(Box<Model>),
    /// A chat model of another family, on the CPU.
    Dense(Box<DenseModel>),
    /// On a GPU.
    #[cfg(feature = "cuda")]
    Cuda(Box<crate::device::forward::DeviceForward<weir_kernels::cuda::driver::CudaDevice>>),
}

impl Processor {
    /// Takes every tensor out of `weights`, to where `options` say.
    pub(crate) fn load(
        config: ModelConfig,
        weights: Weights,
        options: &EngineOptions,
    ) -> Result<(Self, Arc<Pool>), LoadError> {
        if let Some(pool) = options.expert_pool {
            check_pool(pool, &config, options.device)?;
        }
        if options.recipe != Recipe::EXACT && (options.device != ComputeDevice::Cpu || config.dense.is_some()) {
            return Err(wrong(
                "recipe",
                "only models like LLaDA2 and Ling, on the CPU, are packed when they are read".into(),
            ));
        }
        if options.kv_type == KvType::Int8 && options.device != ComputeDevice::Cpu {
            return Err(wrong("kv_type", "K/V in 8 bits is for the CPU; on a GPU it is f32 or bf16".into()));
        }
        match options.device {
            ComputeDevice::Cpu if config.dense.is_some() => {
                let model = DenseModel::load(config, weights)?;
                let pages = pages(model.kv_shape(), model.config.context, options)?;
                let pool = Pool::new(model.kv_shape(), options.kv_type, pages);
                Ok((Processor::Dense(Box::new(model)), pool))
            }
            ComputeDevice::Cuda { .. } if config.dense.is_some() => {
                let message = format!("models of the architecture {} run on the CPU only", config.architecture);
                Err(wrong("device", message))
            }
            ComputeDevice::Cpu => {
                let model = Model::load(config, weights, options.recipe)?.with_pool(options.expert_pool);
                let pages = pages(model.kv_shape(), model.config.context, options)?;
                let pool = Pool::new(model.kv_shape(), options.kv_type, pages);
                Ok((Processor::Cpu(Box::new(model)), pool))
            }
            #[cfg(feature = "cuda")]
            ComputeDevice::Cuda { gpu, weights: format } => {
                use crate::device::forward::DeviceForward;
                use crate::device::weights::DeviceModel;
                use weir_kernels::cuda::driver::CudaDevice;
                use weir_kernels::cuda::{DeviceError, Gpu};

                let refused = |error: DeviceError| wrong("device", error.to_string());
                let device = CudaDevice::open(gpu).map_err(refused)?;
                let model = DeviceModel::load(config, weights, Gpu::new(device), format)?;
                let count = pages(model.kv_shape(), model.config.context, options)?;
                let pages = model.pages(options.kv_type, count).map_err(refused)?;
                let pool = Pool::on_device(model.kv_shape(), options.kv_type, count);
                Ok((Processor::Cuda(Box::new(DeviceForward::new(model, pages))), pool))
            }
            #[cfg(not(feature = "cuda"))]
            ComputeDevice::Cuda { .. } => {
                let message = "this program was built without the feature `cuda`: build with it, or run on the CPU";
                Err(wrong("device", message.into()))
            }
        }
    }

    /// The model's config.
    pub(crate) fn config(&self) -> &ModelConfig {
        match self {
            Processor::Cpu(model) => &model.config,
            Processor::Dense(model) => &model.config,
            #[cfg(feature = "cuda")]
            Processor::Cuda(forward) => &forward.model.config,
        }
    }

    /// The shape of a request's cache.
    pub(crate) fn kv_shape(&self) -> KvShape {
        match self {
            Processor::Cpu(model) => model.kv_shape(),
            Processor::Dense(model) => model.kv_shape(),
            #[cfg(feature = "cuda")]
            Processor::Cuda(forward) => forward.model.kv_shape(),
        }
    }

    /// Weights, counted, and their bytes as stored in the checkpoint.
    pub(crate) fn size(&self) -> (u64, u64) {
        match self {
            Processor::Cpu(model) => (model.parameters, model.stored_bytes),
            Processor::Dense(model) => (model.parameters, model.stored_bytes),
            #[cfg(feature = "cuda")]
            Processor::Cuda(forward) => (forward.model.parameters, forward.model.stored_bytes),
        }
    }

    /// For picking candidates, which the CPU does either way.
    pub(crate) fn kernels(&self) -> &'static Kernels {
        match self {
            Processor::Cpu(model) => model.compute.kernels,
            Processor::Dense(model) => model.compute.kernels,
            #[cfg(feature = "cuda")]
            Processor::Cuda(_) => weir_kernels::registry::best(),
        }
    }

    /// Name of the kernels that make the forwards.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Processor::Cpu(_) | Processor::Dense(_) => self.kernels().name(),
            #[cfg(feature = "cuda")]
            Processor::Cuda(_) => "cuda",
        }
    }

    /// See [`Model::take_back`]; a GPU's are not kept.
    pub(crate) fn take_back(&self, predictions: Predictions) {
        match self {
            Processor::Cpu(model) => model.take_back(predictions),
            Processor::Dense(model) => model.take_back(predictions),
            #[cfg(feature = "cuda")]
            Processor::Cuda(_) => {}
        }
    }

    /// See [`Model::forward`].
    pub(crate) fn forward(&self, lanes: &mut [Lane<'_>]) -> Result<Predictions, String> {
        match self {
            Processor::Cpu(model) => model.forward(lanes).map_err(|error| error.to_string()),
            Processor::Dense(model) => model.forward(lanes).map_err(|error| error.to_string()),
            #[cfg(feature = "cuda")]
            Processor::Cuda(forward) => forward.forward(lanes).map_err(|error| error.to_string()),
        }
    }
}

/// How many pages of K/V the options allow.
fn pages(shape: KvShape, context: usize, options: &EngineOptions) -> Result<usize, LoadError> {
    let page = shape.page_bytes(options.kv_type) as u64;
    let bytes = options.kv_bytes.unwrap_or_else(|| {
        let context = (pages_for(context) as u64).saturating_mul(page);
        options.kv_bytes_default(context)
    });
    // Two pages: the least for a prompt and a block of an answer.
    let pages = usize::try_from(bytes / page.max(1)).unwrap_or(usize::MAX);
    if pages < 2 {
        let message = format!("{bytes} bytes are too few: a page of {PANEL} positions has {page}, and two are needed");
        return Err(wrong("kv_bytes", message));
    }
    Ok(pages)
}

/// Whether a block's visits can be limited to `pool` experts.
fn check_pool(pool: usize, config: &ModelConfig, device: ComputeDevice) -> Result<(), LoadError> {
    let refused = |message: String| Err(wrong("expert_pool", message));
    match &config.moe {
        _ if device != ComputeDevice::Cpu => refused("only the CPU's forward has it".into()),
        _ if config.kind != EngineKind::Diffusion => {
            refused("needs blocks, which an autoregressive model has not".into())
        }
        None => refused("this model has no experts".into()),
        Some(_) if config.routes_by_block() => {
            refused("this model has a pool of its own, which it was trained with".into())
        }
        Some(moe) if pool < moe.routing.experts_kept || pool > moe.experts => {
            let (least, most) = (moe.routing.experts_kept, moe.experts);
            refused(format!("{pool} is not between the {least} experts a token visits and the {most} there are"))
        }
        Some(_) => Ok(()),
    }
}

fn wrong(field: &str, message: String) -> LoadError {
    LoadError::Config { file: "options".into(), field: field.into(), message }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;
    use crate::checkpoint::open::Checkpoint;
    use crate::options::ModelFiles;
    use crate::test_files;

    #[test]
    fn a_gpu_without_the_feature_is_refused_by_name() {
        let device = ComputeDevice::Cuda { gpu: 0, weights: weir_kernels::cuda::WeightFormat::Bf16 };
        let options = EngineOptions { device, ..EngineOptions::default() };
        let load = |options: &EngineOptions| {
            let checkpoint = Checkpoint::open(ModelFiles::Dir(test_files::golden())).expect("golden checkpoint");
            let loaded =
                Processor::load(checkpoint.config().expect("config"), checkpoint.weights().expect("weights"), options);
            loaded.err().expect("no GPU").to_string()
        };
        let text = load(&options);
        assert!(text.contains("`device`") && text.contains("feature `cuda`"), "{text}");
        let text = load(&EngineOptions { kv_type: KvType::Int8, ..options });
        assert!(text.contains("`kv_type`"), "{text}");
    }

    #[test]
    fn a_pool_must_fit_the_model() {
        let load = |pool: usize| {
            let options = EngineOptions { expert_pool: Some(pool), ..EngineOptions::default() };
            let checkpoint = Checkpoint::open(ModelFiles::Dir(test_files::golden())).expect("golden checkpoint");
            let (config, weights) = (checkpoint.config().expect("config"), checkpoint.weights().expect("weights"));
            let experts = config.moe.as_ref().map_or(0, |moe| moe.experts);
            let text = Processor::load(config, weights, &options).err().map(|error| error.to_string());
            (experts, text)
        };
        let (experts, too_few) = load(1);
        assert!(too_few.is_some_and(|text| text.contains("`expert_pool`") || text.contains("expert_pool")));
        assert!(load(experts + 1).1.is_some_and(|text| text.contains("expert_pool")));
        assert_eq!(load(experts).1, None);
    }
}
