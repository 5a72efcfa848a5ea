// Page 0 of a virtual interface: a block of registers for each of its queues.

package import Host

/// One block.
package struct VirtualQueueRegisters: Sendable {
  package enum Register: Int, CaseIterable, Sendable {
    /// CONS_INDX: RD, [19:0]; ERR, [30:24]. Software sets it while the queue is disabled.
    case consumer = 0x00
    /// PROD_INDX: WR, [19:0].
    case producer = 0x04
    /// CONFIG: CMDQ_EN, [0].
    case configuration = 0x08
    /// STATUS: CMDQ_EN_OK, [0].
    case status = 0x0c
    /// GERROR: CMDQ_ERR, [0]. An error is active while it differs from GERRORN.
    case error = 0x10
    /// GERRORN: as GERROR, of software.
    case acknowledgement = 0x14
  }

  /// Of the page.
  package static let pageLength = 64 << 10
  /// Between two blocks.
  private static let stride = 0x80

  private let pages: SharedRegisters
  private let offset: Int

  package init(of queue: Int, in pages: SharedRegisters) {
    self.pages = pages
    offset = queue * Self.stride
  }

  package subscript(register: Register) -> UInt32 {
    get { pages.load(offset + register.rawValue) }
    nonmutating set { pages.store(newValue, at: offset + register.rawValue) }
  }

  /// A register that only the hardware changes, in memory that software can write.
  func keep(_ value: UInt32, in register: Register) {
    if self[register] != value { self[register] = value }
  }
}
