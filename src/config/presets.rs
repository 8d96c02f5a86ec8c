//! The shipped accelerators, embedded. The same texts as `configs/*.ron`.

/// A shipped accelerator.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What the command line calls it.
    pub name: &'static str,
    /// Its RON text, with the source of every number.
    pub text: &'static str,
    /// One line: what machine it is.
    pub summary: &'static str,
}

static PRESETS: [Preset; 5] = [
    Preset {
        name: "edge_16x16",
        text: include_str!("../../configs/edge_16x16.ron"),
        summary: "microcontroller class, ours: 16x16 int8 WS at 500 MHz, 128 KiB, LPDDR4 4.8 GB/s",
    },
    Preset {
        name: "edge_32x32",
        text: include_str!("../../configs/edge_32x32.ron"),
        summary: "phone class, ours: 32x32 int8 WS or OS at 800 MHz, 512 KiB, LPDDR4 12.8 GB/s",
    },
    Preset {
        name: "gemmini_like",
        text: include_str!("../../configs/gemmini_like.ron"),
        summary: "after Gemmini's default: 16x16 int8 WS at 1 GHz, 256 KiB, DDR4 19.2 GB/s, vector in the store path",
    },
    Preset {
        name: "tpu_v1_like",
        text: include_str!("../../configs/tpu_v1_like.ron"),
        summary: "after TPU v1: 256x256 int8 WS at 700 MHz, 24 MiB, weights DDR3 34 GB/s, activations PCIe 14 GB/s",
    },
    Preset {
        name: "neuroncore_like",
        text: include_str!("../../configs/neuroncore_like.ron"),
        summary: "after AWS NeuronCore-v2: 128x128 bf16 WS at 2.8 GHz, 24 MiB, HBM 410 GB/s; timed, not executed",
    },
];

/// The shipped accelerators, smallest first.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{VectorFunction, VectorPlacement, load, not_modelled};
    use crate::tensor::{DType, Requantizer};

    #[test]
    fn every_preset_is_valid_and_carries_its_own_name() {
        for preset in presets() {
            let machine = load(preset.name, &[]).unwrap_or_else(|faults| panic!("{}: {faults}", preset.name));
            assert_eq!(machine.config.name, preset.name);
        }
    }

    #[test]
    #[allow(clippy::float_cmp)]
    fn presets_have_the_published_values() {
        let tpu = load("tpu_v1_like", &[]).unwrap();
        assert_eq!((tpu.config.array.rows, tpu.config.array.cols, tpu.config.array.clock_mhz), (256, 256, 700.0));
        assert_ne!(tpu.weight_memory, tpu.activation_memory);
        assert_eq!(tpu.accumulator_words(), 4096 * 256);
        assert_eq!(tpu.config.vector.requantizer, Requantizer::FixedSingle31);
        // 64 KiB over 34 GB/s are 1,349 array cycles (ISCA 2017): a tile's worth of weights.
        let tile = tpu.memory_service(tpu.weight_memory, crate::units::Bytes(65_536));
        assert_eq!(tile.0 / tpu.array_period.0, 1349);

        let gemmini = load("gemmini_like", &[]).unwrap();
        assert_eq!(gemmini.config.vector.placement, VectorPlacement::InStorePath);
        assert_eq!(gemmini.config.vector.cycles_of(VectorFunction::AvgPool), Some(1));
        assert!(not_modelled(&gemmini).iter().any(|line| line.contains("`L2`")));

        let neuron = load("neuroncore_like", &[]).unwrap();
        assert_eq!(neuron.input_type(), DType::Bf16);
        assert!(!neuron.executes());
        assert_ne!(neuron.array_period, neuron.vector_period);
    }
}
