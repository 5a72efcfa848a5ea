// SPDX-License-Identifier: Apache-2.0

// The layout of this machine's architecture is compared with the C library's struct stat, the
// others with the offsets of their ABIs.

internal import Glibc
internal import SystemPackage
internal import Testing
internal import UAPI

@testable import LauncherFront

private struct NoDevice: CharacterDevice {
  let name = "x"
  func open(by client: any Client) throws(Errno) -> any OpenFile { throw .ioError }
}

private let vfio = NodeStatus(
  of: VirtualEntry(
    path: "/dev/x",
    kind: .node(DeviceNode(paths: ["/dev/x"], major: 511, minor: 0x123, device: NoDevice())),
    inode: 7, parent: nil))

@Suite struct NodeStatusTests {
  @Test func theNativeLayoutIsTheCLibrarys() {
    #if arch(x86_64)
      let bytes = vfio.bytes(for: .x8664)
    #else
      let bytes = vfio.bytes(for: .aarch64)
    #endif
    #expect(bytes.count == MemoryLayout<stat>.size)
    let status = bytes.withUnsafeBytes { $0.loadUnaligned(as: stat.self) }
    #expect(status.st_mode & S_IFMT == S_IFCHR)
    #expect(status.st_rdev == 511 << 8 | 0x23 | 0x100 << 12)
    #expect(status.st_nlink == 1)
    #expect(status.st_blksize == 4096)
    #expect(status.st_size == 0)
    #expect(status.st_ino == 7)
    // Some time after 2020.
    #expect(status.st_mtim.tv_sec > 1_580_000_000 && status.st_ctim.tv_nsec < 1_000_000_000)
  }

  @Test func theI386LayoutIsThatOfStat64() {
    let bytes = vfio.bytes(for: .i386)
    #expect(bytes.count == 96)
    let (mode, rdev) = bytes.withUnsafeBytes { bytes in
      (
        bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self),
        bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
      )
    }
    #expect(mode == UInt32(S_IFCHR) | 0o666)
    #expect(rdev == 511 << 8 | 0x23 | 0x100 << 12)
  }

  @Test func statxHasModeAndDeviceNumber() {
    let bytes = vfio.extendedBytes
    #expect(bytes.count == 256)
    let (mode, major, minor) = bytes.withUnsafeBytes { bytes in
      (
        bytes.loadUnaligned(fromByteOffset: 28, as: UInt16.self),
        bytes.loadUnaligned(fromByteOffset: 128, as: UInt32.self),
        bytes.loadUnaligned(fromByteOffset: 132, as: UInt32.self)
      )
    }
    #expect(UInt32(mode) == UInt32(S_IFCHR) | 0o666)
    #expect((major, minor) == (511, 0x123))
  }
}
