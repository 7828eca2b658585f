//! Where a built-in engine runs: what may be typed, and what this program can do of it. Must never look at the machine:
//! whether there is a GPU shows when the engine is loaded, and in `weir doctor`.

/// Where an engine's forwards run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceSettings {
    /// On the CPU.
    Cpu,
    /// On a GPU.
    Cuda {
        /// Its number, from 0.
        gpu: usize,
        /// How weights are stored there.
        weights: GpuWeights,
    },
}

/// How weights are stored on a GPU, whatever the checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuWeights {
    /// As they are.
    F32,
    /// Two bytes.
    Bf16,
    /// One byte, and a scale for 32.
    Q8,
    /// Half a byte, and a scale for 32.
    Q4,
}

/// `device` and `gpu_weights`, or what is wrong with `device`, and the fix.
pub(super) fn parse(device: &str, weights: GpuWeights) -> Result<DeviceSettings, (String, &'static str)> {
    let gpu = match device.split_once(':') {
        None if device == "cpu" => return Ok(DeviceSettings::Cpu),
        None if device == "cuda" => Some(0),
        Some(("cuda", number)) => number.parse().ok(),
        _ => None,
    };
    let Some(gpu) = gpu else {
        return Err((format!("unknown device `{device}`"), "write `cpu`, `cuda`, or `cuda:1` for the second GPU"));
    };
    if !cfg!(feature = "cuda") {
        let help = "write `cpu`, or build with `cargo xtask cuda` and then `cargo build --release --features cuda`";
        return Err(("this program was built without GPU support".into(), help));
    }
    Ok(DeviceSettings::Cuda { gpu, weights })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_name_and_number() {
        assert_eq!(parse("cpu", GpuWeights::Q4), Ok(DeviceSettings::Cpu));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"] {
            let (message, help) = parse(wrong, GpuWeights::Q4).expect_err(wrong);
            assert!(message.contains("unknown") && help.contains("cuda:1"), "{wrong}: {message}");
        }
        for (typed, gpu) in [("cuda", 0), ("cuda:3", 3)] {
            let parsed = parse(typed, GpuWeights::Bf16);
            #[cfg(feature = "cuda")]
            assert_eq!(parsed, Ok(DeviceSettings::Cuda { gpu, weights: GpuWeights::Bf16 }));
            #[cfg(not(feature = "cuda"))]
            {
                let (message, help) = parsed.expect_err(typed);
                assert!(message.contains("without GPU support"), "GPU {gpu}: {message}");
                assert!(help.contains("--features cuda"), "{help}");
            }
        }
    }
}
