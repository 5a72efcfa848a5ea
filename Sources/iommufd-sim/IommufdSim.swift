// iommufd-sim: Linux's iommufd and VFIO devices without an IOMMU. One file per subcommand.

internal import ArgumentParser

@main
struct IommufdSim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "iommufd-sim",
    abstract: "Linux's iommufd and VFIO devices, simulated.",
    discussion: """
      Programs that were written for /dev/iommu and VFIO device nodes use it unmodified; behind the \
      nodes are emulated IOMMUs and PCI devices that do DMA through them.

        iommufd-sim run -- ./my-vfio-program   for one program and its children; needs nothing
        iommufd-sim serve                      for the whole machine; needs root and /dev/cuse
      """,
    subcommands: [Run.self, Serve.self, MachineCommand.self])
}
