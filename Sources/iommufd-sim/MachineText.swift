// Where a machine's description comes from.

internal import Machine
internal import SystemPackage

enum MachineText {
  /// No description needs more.
  private static let mostBytes = 1 << 20

  /// - Parameter path: a file, or - for standard input.
  static func description(in path: String) throws -> MachineDescription {
    let bytes: [UInt8]
    do {
      bytes = try read(path)
    } catch {
      throw MachineFileError(path, "\(error)")
    }
    guard bytes.count <= mostBytes else {
      throw MachineFileError(path, "a description has at most \(mostBytes) bytes")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw MachineFileError(path, "this is not UTF-8 text")
    }
    return try MachineFile.read(text, named: path)
  }

  private static func read(_ path: String) throws -> [UInt8] {
    let file = path == "-" ? .standardInput : try FileDescriptor.open(path, .readOnly)
    defer { if path != "-" { try? file.close() } }
    var bytes: [UInt8] = []
    while bytes.count <= mostBytes {
      let chunk = try [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
        count = try file.read(into: UnsafeMutableRawBufferPointer(buffer))
      }
      guard !chunk.isEmpty else { break }
      bytes += chunk
    }
    return bytes
  }
}
