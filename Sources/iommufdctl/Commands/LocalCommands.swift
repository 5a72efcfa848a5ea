// What a script needs besides ioctls: nodes, memory to map, records of a queue.

internal import ArgumentParser
internal import CUAPI
internal import Glibc
internal import SystemPackage
internal import UAPI

let simulatorCommands: [any ParsableCommand.Type] = [FaultLogAlloc.self, FaultLogRead.self]
let localCommands: [any ParsableCommand.Type] = [
  Open.self, Close.self, Buffer.self, BufferFill.self, BufferCheck.self, BufferDump.self,
]

struct FaultLogAlloc: Command {
  static let configuration = CommandConfiguration(
    commandName: "sim-fault-log-alloc",
    abstract: "IOMMUFD_SIM_FAULT_LOG_ALLOC: make a queue of the DMA faults of bound devices.",
    discussion: """
      The result is the queue's descriptor.

        iommufdctl sim-fault-log-alloc --fd 3 --dev 2
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "A bound device's object id; 0 for all of this iommufd.") var dev = Word(0)

  func perform(in session: Session) throws(Failure) -> Report {
    try session.call(
      "IOMMUFD_SIM_FAULT_LOG_ALLOC", .simFaultLogAlloc, iommufd_sim_fault_log_alloc()
    ) {
      $0.dev_id = dev.value
    } outputs: {
      [.decimal("out_fd", $0.out_fd)]
    }
  }
}

struct FaultLogRead: Command {
  static let configuration = CommandConfiguration(
    commandName: "sim-fault-log-read",
    abstract: "Read one record of a fault log.",
    discussion: """
      The result is the number of records read: 0 from an empty log.

        iommufdctl sim-fault-log-read --log 5
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "The log's descriptor.") var log: Int32

  func perform(in session: Session) throws(Failure) -> Report {
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

struct Open: Command {
  static let configuration = CommandConfiguration(
    commandName: "open", abstract: "Open a node for reading and writing (for scripts).",
    discussion: "The result is the descriptor.")
  @OptionGroup var options: CommonOptions
  @Argument(help: "For example /dev/vfio/devices/vfio0.") var path: String

  func perform(in session: Session) throws(Failure) -> Report {
    let descriptor = try session.open(path)
    return Report("open", fields: [.decimal("fd", descriptor)])
  }
}

struct Close: Command {
  static let configuration = CommandConfiguration(
    commandName: "close", abstract: "Close a descriptor (for scripts).")
  @OptionGroup var options: CommonOptions
  @Argument(help: "The descriptor.") var descriptor: Int32

  func perform(in session: Session) throws(Failure) -> Report {
    guard Glibc.close(descriptor) == 0 else { throw .call("close", Errno(rawValue: errno)) }
    return Report("close")
  }
}

struct Buffer: Command {
  static let configuration = CommandConfiguration(
    commandName: "buffer", abstract: "Make memory that can be mapped (for scripts).",
    discussion: "The result is its address; with --shared there is a field `fd` too.")
  @OptionGroup var options: CommonOptions
  @Option(help: "Bytes.") var size: Number
  @Option(help: "The byte it is filled with.") var fill = Number(0)
  @Flag(help: "A memory file instead of private memory.") var shared = false

  func perform(in session: Session) throws(Failure) -> Report {
    let made = try session.makeBuffer(size: size.value, shared: shared)
    let bytes = try session.buffer(at: made.address, offset: 0, length: size.value)
    bytes.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: fill.value))
    var fields = [Report.Field("address", .hex(made.address))]
    if let descriptor = made.descriptor { fields.append(.decimal("fd", descriptor)) }
    return Report("buffer", fields: fields)
  }
}

/// A part of a buffer.
struct BufferPart: ParsableArguments {
  @Argument(help: "The buffer's address.") var buffer: Number
  @Option(help: "First byte.") var offset = Number(0)
  @Option(help: "Bytes.") var length: Number

  func bytes(in session: Session) throws(Failure) -> UnsafeMutableRawBufferPointer {
    try session.buffer(at: buffer.value, offset: offset.value, length: length.value)
  }
}

struct BufferFill: Command {
  static let configuration = CommandConfiguration(
    commandName: "buffer-fill", abstract: "Fill a part of a buffer with one byte.")
  @OptionGroup var options: CommonOptions
  @OptionGroup var part: BufferPart
  @Option(help: "The byte.") var with: Number

  func perform(in session: Session) throws(Failure) -> Report {
    let bytes = try part.bytes(in: session)
    bytes.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: with.value))
    return Report("buffer-fill")
  }
}

struct BufferCheck: Command {
  static let configuration = CommandConfiguration(
    commandName: "buffer-check", abstract: "Fail unless a part of a buffer holds one byte only.")
  @OptionGroup var options: CommonOptions
  @OptionGroup var part: BufferPart
  @Option(help: "The byte.") var holds: Number

  func perform(in session: Session) throws(Failure) -> Report {
    let expected = UInt8(truncatingIfNeeded: holds.value)
    let bytes = try part.bytes(in: session)
    if let index = bytes.firstIndex(where: { $0 != expected }) {
      throw .expectation(
        "byte \(part.offset.value + UInt64(index)) of the buffer is \(bytes[index]), "
          + "not \(expected)"
      )
    }
    return Report("buffer-check")
  }
}

struct BufferDump: Command {
  static let configuration = CommandConfiguration(
    commandName: "buffer-dump", abstract: "Show a part of a buffer as hexadecimal bytes.")
  @OptionGroup var options: CommonOptions
  @OptionGroup var part: BufferPart

  func perform(in session: Session) throws(Failure) -> Report {
    Report("buffer-dump", fields: [.text("data", hexadecimal(try part.bytes(in: session)))])
  }
}
