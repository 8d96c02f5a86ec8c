//! How many commands the host issues for a layer: one an instruction where hardware loops unroll it, else one for every
//! piece that the machine's own commands cover. Shared by the closed form and the generator; knows no time.

use super::Transfers;
use crate::config::Control;

/// What one command covers.
#[derive(Clone, Copy, Debug)]
pub struct Commands {
    hardware_loops: bool,
    preload: u32,
    stream: u32,
    rows: u64,
    row_bytes: u64,
}

impl Commands {
    /// Those of a machine.
    pub fn of(control: &Control) -> Self {
        Self {
            hardware_loops: control.hardware_loops,
            preload: control.preload_commands,
            stream: control.stream_commands,
            rows: control.move_rows.into(),
            row_bytes: control.move_bytes.into(),
        }
    }

    /// For an array tile: `[load of a stationary operand, stream]`. In a hardware loop only the `first` instruction of a
    /// buffer tile is one.
    pub fn tile(&self, first: bool) -> [u32; 2] {
        if self.hardware_loops { [u32::from(first); 2] } else { [self.preload, self.stream] }
    }

    /// For the array tiles of a layer in `steps` buffer tiles.
    pub(super) fn tiles(&self, steps: u64, preloads: u64, streams: u64) -> u64 {
        if self.hardware_loops {
            return steps;
        }
        preloads.saturating_mul(self.preload.into()).saturating_add(streams.saturating_mul(self.stream.into()))
    }

    /// For a load or store of `rows` rows of `bytes` bytes each.
    pub fn transfer(&self, rows: u64, bytes: u64) -> u64 {
        if self.hardware_loops || self.rows == 0 {
            return 1;
        }
        let pieces = if self.row_bytes == 0 { 1 } else { bytes.div_ceil(self.row_bytes) };
        rows.saturating_mul(pieces).div_ceil(self.rows).max(1)
    }

    /// For loads and stores at least, whatever their rows.
    pub(in crate::mapping) fn transfers(&self, moved: Transfers) -> u64 {
        if self.hardware_loops || self.rows == 0 || self.row_bytes == 0 {
            return moved.instructions;
        }
        moved.instructions.max(moved.bytes.div_ceil(self.rows.saturating_mul(self.row_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_issues_every_command_counts_the_pieces_of_16_rows_of_64_bytes() {
        let mut commands = Commands { hardware_loops: false, preload: 0, stream: 2, rows: 16, row_bytes: 64 };
        // 56 pixels of 3 and of 65 channels, a flat image of 4 KiB, nothing.
        let counted = [(56, 3), (56, 65), (1, 4096), (0, 0)].map(|(rows, bytes)| commands.transfer(rows, bytes));
        assert_eq!(counted, [4, 7, 4, 1]);
        assert_eq!((commands.tile(true), commands.tile(false)), ([0, 2], [0, 2]));
        assert_eq!(commands.tiles(3, 10, 40), 80);
        let moved = Transfers { bytes: 10_000, instructions: 3, ..Transfers::default() };
        assert_eq!(commands.transfers(moved), 10);
        commands.hardware_loops = true;
        assert_eq!(commands.transfer(56, 65), 1);
        assert_eq!((commands.tile(true), commands.tile(false)), ([1, 1], [0, 0]));
        assert_eq!((commands.tiles(3, 10, 40), commands.transfers(moved)), (3, 3));
    }
}
