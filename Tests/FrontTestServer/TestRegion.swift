// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// A region of two pages that begin with the ID of the open file.
final class TestRegion: MappableRegion {
  let offset: UInt64 = 0x10000
  let length: UInt64 = 0x2000
  let contents: [UInt8]
  private let file = Mutex<FileIdentity?>(nil)

  init(holding id: UInt32) {
    contents = withUnsafeBytes(of: id) { Array($0) }
  }

  var isMapped: Bool {
    file.withLock { $0 }?.isMapped(offset..<offset + length) ?? false
  }

  func prepareMapping(in file: FileIdentity, fill: () throws(Errno) -> SharedRegisters?)
    throws(Errno)
  {
    try self.file.withLock { known throws(Errno) in
      if known == nil { _ = try fill() }
      known = file
    }
  }
}
