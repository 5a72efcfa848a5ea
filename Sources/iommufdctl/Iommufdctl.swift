// iommufdctl: the ioctls of iommufd and VFIO for the shell, one subcommand each.
//
// Flow: the argument parser makes a `Command`; `perform(in:)` issues its ioctl on a `Session`'s
// descriptors and returns a `Report`; the report is printed as text or JSON. Script mode runs the
// same commands, line by line, in one session.

internal import ArgumentParser

@main
struct Iommufdctl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "iommufdctl",
    abstract: "Issue the ioctls of iommufd and of VFIO devices from the shell.",
    discussion: """
      Works on any device with the interface of Linux's /dev/iommu: the kernel's own, \
      /dev/iommufd-sim, or the one `iommufd-sim run` shows its program. Objects live as long as \
      the open file, so either keep a descriptor open in the shell:

        exec 3<>/dev/iommufd-sim
        iommufdctl --fd 3 ioas-alloc
        iommufdctl --fd 3 ioas-map --ioas 1 --length 2M

      or run a script, in which a result can be named and used again:

        iommufdctl script <<'END'
        $ioas = ioas-alloc
        $buf  = buffer --size 4K --fill 0x42
        $map  = ioas-map --ioas $ioas --address $buf --length 4K
        ioas-unmap --ioas $ioas --iova $map --length 4K
        END

      Numbers may be decimal or 0x…, with K, M, G or T for powers of 1024, and `max` for 2^64-1. A \
      failed ioctl prints its errno and exits with 1; a wrong command line exits with 64.

      `iommufdctl help COMMAND` explains a command. In its examples descriptor 3 is an iommufd and 4 \
      a device node; ids are what earlier commands reported.
      """,
    subcommands: [Script.self],
    groupedSubcommands: [
      CommandGroup(name: "I/O ADDRESS SPACES:", subcommands: ioasCommands),
      CommandGroup(name: "PAGE TABLES AND INVALIDATION:", subcommands: pageTableCommands),
      CommandGroup(name: "VIRTUAL IOMMUS AND EVENTS:", subcommands: virtualCommands),
      CommandGroup(name: "VFIO TYPE1 COMPATIBILITY:", subcommands: containerCommands),
      CommandGroup(name: "VFIO DEVICES:", subcommands: deviceCommands),
      CommandGroup(name: "THE SIMULATOR'S EXTENSIONS:", subcommands: simulatorCommands),
      CommandGroup(name: "MEMORY AND DESCRIPTORS:", subcommands: localCommands),
    ])
}
