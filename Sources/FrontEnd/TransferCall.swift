// SPDX-License-Identifier: Apache-2.0

package import SystemPackage
package import UAPI

/// The arguments of one read(2), write(2) or one of their relatives.
///
/// Neither front end receives all of them ready to use. A seccomp notification has the six raw
/// argument registers. A FUSE message has neither the offset of pread(2) nor the pieces of a
/// vector, and the CUSE front end reads the registers from /proc.
package struct TransferCall: Sendable, Equatable {
  /// Where the kernel takes the file offset from.
  package enum Position: Sendable {
    /// The position of the open file (read, readv).
    case file
    /// The fourth argument (pread64, preadv, whose fifth is its unused upper half); for 32-bit
    /// callers the fourth and the fifth.
    case argument
    /// As `argument`, but -1 stands for the position of the open file (preadv2).
    case argumentOrFile
  }

  /// What the arguments of a system call mean.
  package struct Form: Sendable {
    let position: Position
    let isVector: Bool
    let wordSize: Int

    /// - Parameters:
    ///   - isVector: whether the second and third argument describe an array of struct iovec.
    ///   - wordSize: the bytes of a register: 4 for 32-bit callers, otherwise 8.
    package init(position: Position, isVector: Bool = false, wordSize: Int = 8) {
      self.position = position
      self.isVector = isVector
      self.wordSize = wordSize
    }
  }

  /// The file offset that the call names. `nil` when the call uses the position of the open file.
  package let offset: UInt64?
  /// The address of the buffer or of the vector.
  private let address: UInt64
  /// The bytes of the buffer or the elements of the vector.
  private let count: UInt64
  private let isVector: Bool
  private let wordSize: Int
  /// RWF_… of preadv2 and pwritev2.
  private let flags: UInt32

  /// - Parameter argument: returns the raw argument register with an index from 0 to 5.
  package init(_ form: Form, argument: (Int) -> UInt64) {
    func register(_ index: Int) -> UInt64 {
      form.wordSize == 4 ? argument(index) & 0xffff_ffff : argument(index)
    }
    (address, count) = (register(1), register(2))
    (isVector, wordSize) = (form.isVector, form.wordSize)
    let named = wordSize == 4 ? register(3) | register(4) << 32 : register(3)
    switch form.position {
    case .file: offset = nil
    case .argument: offset = named
    case .argumentOrFile: offset = named == .max ? nil : named
    }
    flags = form.position == .argumentOrFile ? UInt32(truncatingIfNeeded: register(5)) : 0
  }

  /// Whether the call has one buffer of exactly `bytes` bytes.
  package func isOneBuffer(of bytes: Int) -> Bool { !isVector && count == UInt64(bytes) }

  /// Returns the memory of the call.
  /// - Throws: the errors of the kernel for a file without read_iter and write_iter, in the
  ///   kernel's order: those of ``Transfer``'s initialisers, then `.notSupported` for a flag that
  ///   such a file does not take (fs: vfs_readv(), do_loop_readv_writev()).
  package func transfer(in memory: some UserMemory) throws(Errno) -> Transfer {
    let transfer =
      isVector
      ? try Transfer(vector: address, count: count, wordSize: wordSize, in: memory)
      : try Transfer(address: address, count: count)
    if !transfer.pieces.isEmpty, flags & ~Self.highPriority != 0 { throw .notSupported }
    return transfer
  }

  /// RWF_HIPRI, the only flag that a file without read_iter and write_iter takes.
  private static let highPriority: UInt32 = 1
}

/// Whether a call reads or writes a file.
package enum TransferDirection: Sendable {
  case read
  case write

  /// Whether `file` has the operation at all (FMODE_CAN_READ, FMODE_CAN_WRITE).
  package func isSupported(by file: any OpenFile) -> Bool {
    switch self {
    case .read: file.hasRead
    case .write: file.hasWrite
    }
  }

  /// Calls the read or write operation of `file`.
  /// - Returns: the bytes moved.
  package func perform(
    on file: any OpenFile, _ buffer: UserBuffer, at offset: UInt64
  ) throws(Errno) -> Int {
    switch self {
    case .read: try file.read(into: buffer, at: offset)
    case .write: try file.write(from: buffer, at: offset)
    }
  }
}
