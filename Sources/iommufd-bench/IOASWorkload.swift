// SPDX-License-Identifier: Apache-2.0

// IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP as a client calls them: through the ioctl table, with a
// struct in the client's memory, on shared and on private memory, with and without a domain whose
// page table follows. This process is its own client, so both sides access its memory with the same
// system calls.

import CLinux
import CUAPI
import CYardstick
import Glibc
import Host
import IOMMU
import IOMMUFD
import SystemPackage
import UAPI

final class IOASWorkload {
  private static let largest = 1 << 30
  /// An address in the aperture of a mock device, aligned to `largest`.
  private static let iova: UInt64 = 1 << 30
  private let machine: PhysicalMemory
  // Mapped until the process ends, because the rows outlive this object.
  private let shared: UnsafeMutableRawPointer
  private let anonymous: UnsafeMutableRawPointer

  init() throws {
    // Pages of files are used in place, as the C code uses them. The pins of the kernel, which are
    // the default, cost what its io_uring registration and its page faults cost.
    var limits = PhysicalMemory.Limits()
    limits.pinning = .inPlace
    machine = try PhysicalMemory(limits)
    let file = try OwnedDescriptor(checking: CLinux_memfd_create("bench", 1))
    // The file has no holes, so that the kernel's allocation of pages is not measured.
    let failure = posix_fallocate(file.rawValue, 0, Self.largest)
    guard failure == 0 else { throw Errno(rawValue: failure) }
    shared = try Self.memory(MAP_SHARED, file.rawValue)
    anonymous = try Self.memory(MAP_PRIVATE | MAP_ANONYMOUS, -1)
  }

  private static func memory(
    _ flags: Int32, _ descriptor: Int32
  ) throws -> UnsafeMutableRawPointer {
    // Without huge pages, so that every machine uses pages of 4 KiB.
    guard
      let memory = mmap(nil, largest, PROT_READ | PROT_WRITE, flags, descriptor, 0),
      memory != MAP_FAILED
    else { throw Errno(rawValue: errno) }
    madvise(memory, largest, MADV_NOHUGEPAGE)
    return memory
  }

  func rows() throws -> [Row] {
    var rows: [Row] = []
    for hasDomain in [false, true] {
      for isShared in [true, false] {
        for (name, length, count) in [
          ("4 KiB", 4096, 2000), ("2 MiB", 2 << 20, 400), ("1 GiB", Self.largest, 1),
        ] where hasDomain || length == 4096 {
          rows.append(
            try row(
              "IOAS " + name + (isShared ? " memfd" : " private") + (hasDomain ? ", domain" : ""),
              length: length, count: count, isShared: isShared, hasDomain: hasDomain))
        }
      }
    }
    return rows
  }

  private func row(
    _ name: String, length: Int, count: Int, isShared: Bool, hasDomain: Bool
  ) throws -> Row {
    let yardstick = yardstick_ioas_make(
      isShared ? 1 : 0, hasDomain ? 1 : 0, UInt64(length))
    let ours = try OpenIOAS(memory: machine, hasDomain: hasDomain)
    let address = UInt64(UInt(bitPattern: isShared ? shared : anonymous))
    var map = iommu_ioas_map()
    map.size = UInt32(MemoryLayout<iommu_ioas_map>.size)
    map.flags = [
      IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_WRITEABLE, IOMMU_IOAS_MAP_READABLE,
    ].reduce(0) { $0 | UInt32($1.rawValue) }
    (map.ioas_id, map.user_va, map.length, map.iova) = (ours.id, address, UInt64(length), Self.iova)
    var unmap = iommu_ioas_unmap()
    unmap.size = UInt32(MemoryLayout<iommu_ioas_unmap>.size)
    (unmap.ioas_id, unmap.iova, unmap.length) = (ours.id, Self.iova, UInt64(length))
    let (mapping, unmapping) = (Argument(map), Argument(unmap))
    // The checksum is the number of unmapped bytes.
    return Row(
      name: name, limit: 1.5, count: count,
      yardstick: { count in
        repeated(count) { _ in
          unmapping.value.length = UInt64(length)
          let isDone =
            yardstick_ioas_map(yardstick, mapping.address) == 0
            && yardstick_ioas_unmap(yardstick, unmapping.address) == 0
          return isDone ? unmapping.value.length : 0
        }
      },
      ours: { count in
        repeated(count) { _ in
          unmapping.value.length = UInt64(length)
          let isDone =
            ours.call(.ioasMap, mapping.address) && ours.call(.ioasUnmap, unmapping.address)
          return isDone ? unmapping.value.length : 0
        }
      })
  }
}

/// A command struct at a fixed address.
private final class Argument<Value> {
  private let pointer = UnsafeMutablePointer<Value>.allocate(capacity: 1)
  init(_ value: Value) { pointer.initialize(to: value) }
  deinit { pointer.deallocate() }

  var value: Value {
    get { pointer.pointee }
    set { pointer.pointee = newValue }
  }
  var address: UInt64 { UInt64(UInt(bitPattern: pointer)) }
}

/// An open /dev/iommu with one IOAS.
private final class OpenIOAS {
  private let file: any OpenFile
  private let client = SelfClient()
  let id: UInt32

  init(memory: PhysicalMemory, hasDomain: Bool) throws {
    // The domain is a mock device's, because mock devices need no machine.
    let node = IOMMUFDDevice(memory: memory, selftest: Selftest(memory: memory))
    file = try node.open(by: client)
    var allocation = iommu_ioas_alloc()
    allocation.size = UInt32(MemoryLayout<iommu_ioas_alloc>.size)
    let argument = Argument(allocation)
    _ = try file.ioctl(Ioctl.ioasAlloc.number.rawValue, argument: argument.address, client: client)
    id = argument.value.out_ioas_id
    guard hasDomain else { return }
    var attachment = iommu_test_cmd()
    attachment.size = UInt32(MemoryLayout<iommu_test_cmd>.size)
    attachment.op = UInt32(IOMMU_TEST_OP_MOCK_DOMAIN)
    attachment.id = id
    let device = Argument(attachment)
    _ = try file.ioctl(Ioctl.test.number.rawValue, argument: device.address, client: client)
  }

  deinit { file.release() }

  func call(_ ioctl: Ioctl, _ argument: UInt64) -> Bool {
    (try? file.ioctl(ioctl.number.rawValue, argument: argument, client: client)) != nil
  }
}

/// This process as a client.
private final class SelfClient: Client {
  private static let spaces = AddressSpaceRegistry()
  let task = HostTask(id: getpid())

  func copyIn(from address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) {
    try task.read(at: address, into: buffer)
  }

  func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    try task.write(bytes, at: address)
  }

  func addressSpace() throws(Errno) -> AddressSpace { try Self.spaces.addressSpace(of: task) }

  func duplicateDescriptor(_ number: Int32) throws(Errno) -> OwnedDescriptor {
    try task.duplicateDescriptor(number)
  }

  func openFile(_ number: Int32) throws(Errno) -> (any OpenFile)? { nil }

  func install(
    _ file: any OpenFile, publish: (_ number: Int32) throws(Errno) -> Void
  ) throws(Errno) {
    throw .notSupported
  }
}
