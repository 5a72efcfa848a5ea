// The node /dev/iommu, and one open(2) of it.

internal import Host
package import IOMMU
package import SystemPackage
package import UAPI

package final class IOMMUFDDevice: CharacterDevice {
  package let name: String
  private let memory: PhysicalMemory
  private let dispatcher: Dispatcher
  private let selftest: Selftest?
  private let extensions: ActiveExtensions

  /// - Parameter selftest: makes IOMMU_TEST_CMD a command.
  package init(
    name: String = "iommu", memory: PhysicalMemory, selftest: Selftest? = nil,
    extensions: ActiveExtensions = .none
  ) {
    self.name = name
    self.memory = memory
    self.selftest = selftest
    self.extensions = extensions
    dispatcher = Dispatcher(
      Dispatcher.operations + (selftest == nil ? [] : [SelftestCommand.row]),
      extensions: Dispatcher.extensions + extensions.operations)
  }

  package func open(by client: any Client) throws(Errno) -> any OpenFile {
    try FaultInjection.step()
    return IOMMUFDFile(
      Context(memory: memory, selftest: selftest, extensions: extensions), dispatcher: dispatcher)
  }
}

package final class IOMMUFDFile: OpenFile {
  package let context: Context
  private let dispatcher: Dispatcher

  init(_ context: Context, dispatcher: Dispatcher) {
    self.context = context
    self.dispatcher = dispatcher
  }

  package func ioctl(
    _ request: UInt32, argument: UInt64, client: any Client
  ) throws(Errno) -> Int32 {
    try dispatcher.call(
      IoctlNumber(rawValue: request), argument: argument, client: client, on: context)
  }

  package var hasRegions: Bool { true }

  package func region(for request: MappingRequest) throws(Errno) -> any MappableRegion {
    try context.mappableRegions.region(for: request)
  }

  package func release() {
    context.mappableRegions.forgetFile()
    context.release()
  }
}
