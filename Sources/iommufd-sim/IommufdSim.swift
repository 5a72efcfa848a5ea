// SPDX-License-Identifier: Apache-2.0

// iommufd-sim: Linux's iommufd and VFIO devices without an IOMMU. One file per subcommand.

internal import ArgumentParser
internal import Host

@main
struct IommufdSim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "iommufd-sim",
    abstract: "Simulate Linux's iommufd and VFIO devices, without an IOMMU.",
    discussion: """
      Programs that use /dev/iommu and VFIO device nodes run unmodified. Behind the nodes are \
      emulated IOMMUs, and emulated PCI devices whose DMA they translate.

      For one program and its children, without any privilege:

        iommufd-sim run -- ./my-vfio-program

      For every program on this machine, with root and /dev/cuse:

        iommufd-sim serve
      """,
    subcommands: [Run.self, Serve.self, MachineCommand.self])

  static func main() {
    ProgramStart.prepare()
    main(ProgramStart.arguments)
  }
}
