//! Which GPUs there are and whether Weir would use one: through the driver where the feature `cuda` is built in, else by
//! asking `nvidia-smi`. Must never take memory on a GPU.

#[cfg(not(feature = "cuda"))]
use std::process::{Command, Stdio};

use super::{Finding, Subject};
use crate::config::device::DeviceSettings;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let mut findings = found();
    findings.push(built_in());
    for engine in subject.settings.iter().flat_map(|settings| &settings.engines) {
        let role = engine.role.as_str();
        findings.push(match engine.device {
            DeviceSettings::Cpu => Finding::ok(format!("engine `{role}` would run on the CPU")),
            DeviceSettings::Cuda { gpu, .. } => Finding::ok(format!("engine `{role}` would run on GPU {gpu}")),
        });
    }
    findings
}

#[cfg(feature = "cuda")]
fn found() -> Vec<Finding> {
    use weir_kernels::cuda::driver;
    match driver::find() {
        Err(error) => vec![Finding::ok(format!("no GPU: {error}"))],
        Ok(gpus) if gpus.is_empty() => vec![Finding::ok("no GPU: the driver sees none")],
        Ok(gpus) => gpus
            .into_iter()
            .map(|gpu| {
                let (major, minor) = gpu.capability;
                let memory = super::bytes(gpu.memory as u64);
                let text = format!("GPU {}: {}, compute capability {major}.{minor}, {memory}", gpu.ordinal, gpu.name);
                if major < 8 {
                    Finding::note(text).fix("8.0 or newer is needed: it would not be used")
                } else {
                    Finding::ok(text)
                }
            })
            .collect(),
    }
}

#[cfg(not(feature = "cuda"))]
fn found() -> Vec<Finding> {
    let query = ["--query-gpu=index,name,compute_cap,memory.total", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).stdin(Stdio::null()).stderr(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => listed(&String::from_utf8_lossy(&output.stdout)),
        Ok(_) => {
            vec![Finding::note("`nvidia-smi` is there and fails").fix("run it by hand: the driver may not be loaded")]
        }
        Err(_) => vec![Finding::ok("no GPU: there is no `nvidia-smi`")],
    }
}

/// One finding for each line of nvidia-smi.
#[cfg(any(test, not(feature = "cuda")))]
fn listed(lines: &str) -> Vec<Finding> {
    let gpus = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let findings: Vec<Finding> = gpus.map(|gpu| Finding::ok(format!("GPU {gpu}"))).collect();
    if findings.is_empty() { vec![Finding::ok("no GPU: `nvidia-smi` lists none")] } else { findings }
}

#[cfg(feature = "cuda")]
fn built_in() -> Finding {
    if !weir_kernels::cuda::driver::has_kernels() {
        return Finding::note("built with the feature `cuda`, but without GPU kernels: only the CPU can be used")
            .fix("run `cargo xtask cuda`, then build again");
    }
    Finding::note("GPU kernels are built in, and have never run on a GPU (docs/cuda.md)")
}

#[cfg(not(feature = "cuda"))]
fn built_in() -> Finding {
    Finding::ok("built without the feature `cuda`: only the CPU can be used")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_nvidia_smi_is_a_gpu() {
        assert_eq!(listed("0, NVIDIA H100, 9.0, 81559 MiB\n1, NVIDIA H100, 9.0, 81559 MiB\n").len(), 2);
        assert!(listed("\n")[0].text.contains("no GPU"));
    }
}
