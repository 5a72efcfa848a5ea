// SPDX-License-Identifier: Apache-2.0

// iommufdctl: the ioctls of iommufd and VFIO for the shell, one subcommand each.
//
// The argument parser makes a `ScriptableCommand`. Its `perform(in:)` issues the ioctl on a
// descriptor of a `ScriptSession` and returns a `Report`, which is printed as text or as JSON.
// `iommufdctl script` performs such subcommands line by line in one session.

internal import ArgumentParser

@main
struct Iommufdctl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "iommufdctl",
    abstract: "Issue the ioctls of iommufd and of VFIO devices from the shell.",
    discussion: """
      iommufdctl works on every file with the interface of Linux's /dev/iommu: the kernel's own, \
      /dev/iommufd-sim, or the one that `iommufd-sim run` shows its program.

      The objects of an iommufd exist as long as the file is open. To work step by step, keep the \
      file open in the shell:

        exec 3<>/dev/iommufd-sim
        iommufdctl ioas-alloc --fd 3
        iommufdctl ioas-map --fd 3 --ioas 1 --length 2M

      Or write a script, in which a name keeps a result for later lines:

        iommufdctl script <<'END'
        $ioas = ioas-alloc
        $buf  = buffer --size 4K --fill 0x42
        $map  = ioas-map --ioas $ioas --address $buf --length 4K
        ioas-unmap --ioas $ioas --iova $map --length 4K
        END

      Numbers are decimal (4096) or hexadecimal (0x1000). K, M, G and T multiply by powers of \
      1024; `max` is 2^64-1.

      When an ioctl fails, iommufdctl prints its errno and exits with status 1. When the command \
      line is wrong, it exits with status 64.

      `iommufdctl help SUBCOMMAND` explains a subcommand. In the examples there, descriptor 3 is \
      an iommufd and descriptor 4 a VFIO device; object IDs are results of earlier subcommands.
      """,
    subcommands: [Script.self],
    groupedSubcommands: [
      CommandGroup(name: "I/O ADDRESS SPACE", subcommands: ioasCommands),
      CommandGroup(name: "HARDWARE PAGE TABLE", subcommands: pageTableCommands),
      CommandGroup(name: "VIRTUAL IOMMU AND EVENT QUEUE", subcommands: virtualCommands),
      CommandGroup(name: "VFIO TYPE1 CONTAINER", subcommands: containerCommands),
      CommandGroup(name: "VFIO DEVICE", subcommands: deviceCommands),
      CommandGroup(name: "SIMULATOR", subcommands: simulatorCommands),
      CommandGroup(name: "FILE AND BUFFER", subcommands: localCommands),
    ])
}
