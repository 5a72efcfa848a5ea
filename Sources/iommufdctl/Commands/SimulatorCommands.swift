// SPDX-License-Identifier: Apache-2.0

// The simulator's own ioctls that a user needs, and the reading of a fault log.

internal import ArgumentParser
internal import CUAPI
internal import Glibc
internal import SystemPackage
internal import UAPI

let simulatorCommands: [any ParsableCommand.Type] = [FaultLogAlloc.self, FaultLogRead.self]

struct FaultLogAlloc: IoctlCommand {
  static let ioctl = Ioctl.simFaultLogAlloc
  static let configuration = ioctlConfiguration(
    "sim-fault-log-alloc", "open a log of failed DMA.",
    discussion: """
      The log has a record of every DMA request of the device that was not translated or not \
      permitted. ENOTTY on a kernel's /dev/iommu. The result is the descriptor of the log.

        iommufdctl sim-fault-log-alloc --fd 3 --dev 2
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Object ID of a bound device; 0 for all devices of the iommufd.")
  var dev = Word(0)

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    try session.call(Self.ioctl, iommufd_sim_fault_log_alloc()) {
      $0.dev_id = dev.value
    } outputs: {
      [.decimal("out_fd", $0.out_fd)]
    }
  }
}

struct FaultLogRead: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sim-fault-log-read",
    abstract: "Read one record of a fault log.",
    discussion: """
      The result is the number of records read: 1, or 0 when the log is empty.

        iommufdctl sim-fault-log-read --log 5
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Descriptor of the log.") var log: Int32

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    var record = iommufd_sim_fault()
    let count = read(log, &record, MemoryLayout<iommufd_sim_fault>.size)
    guard count >= 0 else { throw .call("read", Errno(rawValue: errno)) }
    guard count > 0 else { return Report("read", fields: [.decimal("records", 0)]) }
    return Report(
      "read",
      fields: [
        .decimal("records", 1), .decimal("type", record.type), .hex("reason", record.reason),
        .hex("flags", record.flags), .decimal("dev_id", record.dev_id),
        .hex("requester", record.requester), .decimal("pasid", record.pasid),
        .hex("iova", record.iova),
        .list(
          "raw",
          [.hex(record.raw.0), .hex(record.raw.1), .hex(record.raw.2), .hex(record.raw.3)]),
      ])
  }
}
