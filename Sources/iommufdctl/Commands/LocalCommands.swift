// SPDX-License-Identifier: Apache-2.0

// What a script needs besides ioctls: open files, and memory to map.

internal import ArgumentParser
internal import Glibc
internal import SystemPackage

let localCommands: [any ParsableCommand.Type] = [
  Open.self, Close.self, Buffer.self, BufferFill.self, BufferCheck.self, BufferDump.self,
]

struct Open: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "open", abstract: "Open a node for reading and writing (for scripts).",
    discussion: """
      The result is the descriptor.

        iommufdctl open /dev/vfio/devices/vfio0
      """)
  @OptionGroup var options: CommonOptions
  @Argument(help: "Path of the node.") var path: String

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let descriptor = try session.open(path)
    return Report("open", fields: [.decimal("fd", descriptor)])
  }
}

struct Close: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "close", abstract: "Close a descriptor (for scripts).",
    discussion: """
        iommufdctl close 5
      """)
  @OptionGroup var options: CommonOptions
  @Argument(help: "The descriptor.") var descriptor: Int32

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    guard Glibc.close(descriptor) == 0 else { throw .call("close", Errno(rawValue: errno)) }
    return Report("close")
  }
}

struct Buffer: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "buffer", abstract: "Make a buffer that can be mapped (for scripts).",
    discussion: """
      The result is its address. With --shared there is a field `fd`, the descriptor of the memfd.

        iommufdctl buffer --size 64K --fill 0x42 --shared
      """)
  @OptionGroup var options: CommonOptions
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var size: Number
  @Option(help: "The value of every byte.") var fill = Number(0)
  @Flag(help: "Map a memfd instead of private memory.") var shared = false

  func perform(in session: ScriptSession) throws(Failure) -> Report {
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
  @Argument(help: "Address of the buffer.") var buffer: Number
  @Option(help: "Offset of the first byte.") var offset = Number(0)
  @Option(help: "Bytes, for example 4096, 0x1000 or 4K.") var length: Number

  func bytes(in session: ScriptSession) throws(Failure) -> UnsafeMutableRawBufferPointer {
    try session.buffer(at: buffer.value, offset: offset.value, length: length.value)
  }
}

struct BufferFill: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "buffer-fill", abstract: "Set every byte of a part of a buffer (for scripts).",
    discussion: """
        iommufdctl buffer-fill 0x7f0000000000 --length 4K --with 0x42
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var part: BufferPart
  @Option(help: "The value of every byte.") var with: Number

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    let bytes = try part.bytes(in: session)
    bytes.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: with.value))
    return Report("buffer-fill")
  }
}

struct BufferCheck: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "buffer-check",
    abstract: "Fail unless every byte of a part of a buffer has one value (for scripts).",
    discussion: """
        iommufdctl buffer-check 0x7f0000000000 --length 4K --holds 0x42
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var part: BufferPart
  @Option(help: "The expected value of every byte.") var holds: Number

  func perform(in session: ScriptSession) throws(Failure) -> Report {
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

struct BufferDump: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "buffer-dump",
    abstract: "Print a part of a buffer as hexadecimal bytes (for scripts).",
    discussion: """
        iommufdctl buffer-dump 0x7f0000000000 --length 16
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var part: BufferPart

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    Report("buffer-dump", fields: [.text("data", hexadecimal(try part.bytes(in: session)))])
  }
}
