// SPDX-License-Identifier: Apache-2.0

internal import Machine
internal import SystemPackage

/// Reads a machine description from a file or from standard input.
enum MachineText {
  /// The size limit of a machine description.
  private static let maximumSize = 1 << 20

  /// Reads the machine description at `path`; `-` is standard input.
  /// - Throws: `MachineFileError`, with line and column when the text is not a machine description.
  static func description(in path: String) throws -> MachineDescription {
    let bytes: [UInt8]
    do {
      bytes = try read(path)
    } catch {
      throw MachineFileError(path, "\(error)")
    }
    guard bytes.count <= maximumSize else {
      throw MachineFileError(
        path, "a machine description cannot have more than \(maximumSize) bytes")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw MachineFileError(path, "the text is not UTF-8")
    }
    return try MachineFile.read(text, named: path)
  }

  private static func read(_ path: String) throws -> [UInt8] {
    let file = path == "-" ? .standardInput : try FileDescriptor.open(path, .readOnly)
    defer { if path != "-" { try? file.close() } }
    var bytes: [UInt8] = []
    while bytes.count <= maximumSize {
      let chunk = try [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
        count = try file.read(into: UnsafeMutableRawBufferPointer(buffer))
      }
      guard !chunk.isEmpty else { break }
      bytes += chunk
    }
    return bytes
  }
}
