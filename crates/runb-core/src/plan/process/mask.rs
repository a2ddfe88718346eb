//! Lists of CPUs and of memory nodes, as masks.

/// The most CPUs that a kernel can be built for (NR_CPUS of x86-64 with MAXSMP).
pub(super) const MAX_CPUS: usize = 8192;
/// The most memory nodes (NODES_SHIFT is 10 at most).
const MAX_NODES: usize = 1024;

/// What a list is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Cpus,
    Nodes,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Of::Cpus => "CPU",
            Of::Nodes => "memory node",
        }
    }

    fn most(self) -> usize {
        match self {
            Of::Cpus => MAX_CPUS,
            Of::Nodes => MAX_NODES,
        }
    }
}

/// `0-3,7` as the words of a mask, as many as the highest number demands.
///
/// # Errors
/// A sentence: it is no such list, or no kernel has so many.
pub(super) fn mask(list: &str, of: Of) -> Result<Vec<u64>, String> {
    let name = of.name();
    let number = |text: &str| match text.parse::<u64>() {
        Ok(number) if number < of.most() as u64 => Ok(number as usize),
        Ok(number) => Err(format!("{list:?}: no kernel has a {name} {number}")),
        Err(_) => Err(format!("{list:?}: {text:?} is no number of a {name}")),
    };
    let mut mask = Vec::new();
    // As runc has it an element may be empty, with spaces around.
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{list:?}: {part:?} ends before it begins"));
        }
        mask.resize(mask.len().max(last / 64 + 1), 0u64);
        for number in first..=last {
            mask[number / 64] |= 1 << (number % 64);
        }
    }
    if mask.is_empty() { Err(format!("{list:?} names no {name}")) } else { Ok(mask) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_beyond_1024_have_a_place_in_the_mask() {
        assert_eq!(mask("0-3,7", Of::Cpus), Ok(vec![0x8f]));
        assert_eq!(mask(" 0-3 ,,7,", Of::Nodes), Ok(vec![0x8f]));
        let mask = mask("1,2000-2001", Of::Cpus).expect("a mask");
        assert_eq!((mask.len(), mask[0], mask[2000 / 64]), (32, 2, 0b11 << (2000 % 64)));
    }

    #[test]
    fn a_list_that_cannot_be_is_refused() {
        for (list, of, text) in [
            ("3-1", Of::Cpus, "ends before it begins"),
            ("9999", Of::Cpus, "no kernel has a CPU 9999"),
            ("0-9876543210", Of::Nodes, "no kernel has a memory node 9876543210"),
            ("a", Of::Nodes, "is no number of a memory node"),
            ("0-", Of::Nodes, "\"\" is no number"),
            (" , ", Of::Nodes, "names no memory node"),
        ] {
            assert!(mask(list, of).expect_err(list).contains(text), "{list}");
        }
    }
}
